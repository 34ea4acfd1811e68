//! What `data info --verify` says for people.

use std::io::{self, Write};

use crate::cli::common::output::printable;
use crate::data::{Damaged, DataSpec, Shared, Split, Twin, Verification};

/// Damaged files and groups of equal images that are listed.
const SHOWN: usize = 20;
/// Images of a group that are listed.
const SHOWN_TWINS: usize = 4;

/// Writes what was found: how much, and the first of it by name.
pub fn write(out: &mut impl Write, found: &Verification, class_names: &[String]) -> io::Result<()> {
    let Verification { decoded, damaged, duplicates } = found;
    let how_many = |count: usize| if count == 0 { "none".to_owned() } else { count.to_string() };
    writeln!(out, "verified: {} decoded, {} damaged", counted(*decoded, "image"), how_many(damaged.len()))?;
    for fault in damaged.iter().take(SHOWN) {
        writeln!(out, "  {}", printable(&describe(fault)))?;
    }
    write_rest(out, damaged.len())?;

    // What is there more than once, split by split, and then by name.
    if duplicates.groups.is_empty() {
        return writeln!(out, "duplicates: none, no two images have the same pixels");
    }
    let (images, groups) = (counted(duplicates.images, "image"), counted(duplicates.groups.len(), "group"));
    writeln!(out, "duplicates: {images} in {groups} of the same pixels")?;
    for Shared { split, also_in, images } in &duplicates.shared {
        let these = counted(*images, &format!("{split} image"));
        let verb = if *images == 1 { "is" } else { "are" };
        let default = if [*split, *also_in].contains(&Split::Validation) { " (held out by default)" } else { "" };
        if split == also_in {
            writeln!(out, "  {these} {verb} the same as an earlier one{default}")?;
        } else {
            writeln!(out, "  {these} {verb} in {also_in} too{default}")?;
        }
    }
    match duplicates.of_several_classes {
        0 => {}
        1 => writeln!(out, "  1 group has images of different classes")?,
        several => writeln!(out, "  {several} groups have images of different classes")?,
    }
    for group in duplicates.groups.iter().take(SHOWN) {
        writeln!(out, "  {}", printable(&equation(group, class_names)))?;
    }
    write_rest(out, duplicates.groups.len())
}

/// What to do about damage.
pub fn advice(found: &Verification, spec: &DataSpec) -> String {
    let count = found.damaged.len();
    let (are, them) = if count == 1 { ("is", "it") } else { ("are", "them") };
    let what = if spec.is_files() { "file" } else { "part" };
    let skip = if found.damaged.iter().all(|damaged| damaged.is_one_of_many) {
        format!(", or pass --skip-bad to leave {them} out")
    } else {
        String::new()
    };
    format!("{} of {spec} {are} damaged, named above. Mend or remove {them}{skip}", counted(count, what))
}

fn write_rest(out: &mut impl Write, count: usize) -> io::Result<()> {
    match count.saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more, which --json lists"),
    }
}

/// `d/train/cat/3.jpg (train): the JPEG is truncated`.
fn describe(Damaged { split, name, problem, .. }: &Damaged) -> String {
    if problem.contains(name) { format!("{problem} ({split})") } else { format!("{name} ({split}): {problem}") }
}

/// `a.png (train, cat) = b.png (test, cat)`.
fn equation(group: &[Twin], class_names: &[String]) -> String {
    let side = |Twin { split, name, class, .. }: &Twin| match class {
        Some(class) => match class_names.get(usize::from(*class)) {
            Some(class) => format!("{name} ({split}, {class})"),
            None => format!("{name} ({split}, class {class})"),
        },
        None => format!("{name} ({split})"),
    };
    let sides: Vec<String> = group.iter().take(SHOWN_TWINS).map(side).collect();
    let more = group.len().saturating_sub(SHOWN_TWINS);
    let more = if more > 0 { format!(" = {more} more") } else { String::new() };
    format!("{}{more}", sides.join(" = "))
}

/// `1 image`, `2 images`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
