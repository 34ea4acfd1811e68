//! What the repository says of itself: every link leads somewhere, the book names its chapters, fixtures stay small.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown files of the repository, without what builds, installations and runs have left there.
fn markdown_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let hidden = name.starts_with('.') && name != ".github";
            let made =
                path.parent() == Some(root()) && ["target", "runs", "data", "demo", "first-hour"].contains(&name);
            if path.is_dir() && !path.is_symlink() && !hidden && !made {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Text outside of fenced code, where brackets mean something else.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if !fenced && !fence {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Targets of links and pictures: `[words](target)`, `[name]: target`, `src="target"`, `href="target"`.
fn links(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for (start, end) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
        for after in text.split(start).skip(1) {
            targets.extend(after.split(end).next().map(str::to_owned));
        }
    }
    let definition = |line: &str| {
        let (name, target) = line.split_once("]: ")?;
        name.starts_with('[').then(|| target.trim().to_owned())
    };
    targets.extend(text.lines().filter_map(definition));
    targets
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| title.strip_prefix(' ')).flatten()
    });
    headings.map(anchor).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect()
}

/// What is wrong with a file's links.
fn broken_links(path: &Path) -> Vec<String> {
    let text = prose(&fs::read_to_string(path).unwrap());
    let mut broken = Vec::new();
    for target in links(&text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, section) =
            target.split_once('#').map_or((&target[..], None), |(file, section)| (file, Some(section)));
        let file = if file.is_empty() { path.to_owned() } else { path.parent().unwrap().join(file) };
        let docs = root().join("docs");
        if path.starts_with(&docs) && !file.canonicalize().is_ok_and(|file| file.starts_with(&docs)) {
            broken.push(format!("{}: {target} leads out of the book", path.display()));
            continue;
        }
        if !file.exists() {
            broken.push(format!("{}: {target} leads nowhere", path.display()));
            continue;
        }
        if let Some(section) = section {
            let there = anchors(&prose(&fs::read_to_string(&file).unwrap())).contains(section);
            if !there {
                broken.push(format!("{}: {target} names a section that is not there", path.display()));
            }
        }
    }
    broken
}

#[test]
fn every_relative_link_leads_somewhere() {
    let files = markdown_files();
    assert!(files.len() > 10, "found only {files:?}");
    let broken: Vec<String> = files.iter().flat_map(|file| broken_links(file)).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The checker itself: it sees what is broken, and nothing else.
#[test]
fn a_broken_link_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.md");
    fs::write(folder.path().join("other.md"), "# One op, one name\n").unwrap();
    let good =
        "[a](other.md) [b](other.md#one-op-one-name) [c](https://example.com/x) ![d](.)\n```\n[e](gone.md)\n```\n";
    fs::write(&page, good).unwrap();
    assert_eq!(broken_links(&page), [""; 0]);
    fs::write(&page, format!("{good}[f](gone.md) [g](other.md#two) <img src=\"gone.png\">\n[h]: gone/too\n")).unwrap();
    assert_eq!(broken_links(&page).len(), 4, "{:?}", broken_links(&page));
}

/// Files and folders that a page names in backticks, from the repository's root.
fn named_paths(text: &str) -> Vec<&str> {
    let rooms =
        ["src/", "kernels/", "tests/", "docs/", "xtask/", "build/", "benches/", "examples/", "recipes/", "assets/"];
    let spans = text.split('`').skip(1).step_by(2);
    // NAME, X and * stand for any name.
    let concrete = |path: &&str| !path.contains("NAME") && !path.contains("/X") && !path.contains([' ', '*', '{']);
    spans.filter(|span| rooms.iter().any(|room| span.starts_with(room))).filter(concrete).collect()
}

#[test]
fn every_named_file_is_there() {
    for page in markdown_files() {
        // What a page of another package or of the fixtures names starts elsewhere; the changelog tells of the past.
        let own = page.parent() == Some(root()) || page.starts_with(root().join("docs"));
        if !own || page.ends_with("CHANGELOG.md") {
            continue;
        }
        for path in named_paths(&prose(&fs::read_to_string(&page).unwrap())) {
            assert!(root().join(path).exists(), "{} names {path}, which is not there", page.display());
        }
    }
}

#[test]
fn the_summary_names_every_chapter_once() {
    let docs = root().join("docs");
    let summary = links(&fs::read_to_string(docs.join("SUMMARY.md")).unwrap());
    let named: BTreeSet<PathBuf> = summary.iter().map(|target| docs.join(target)).collect();
    assert_eq!(named.len(), summary.len(), "a chapter is named twice: {summary:?}");

    let chapters = markdown_files().into_iter().filter(|file| file.starts_with(&docs));
    let chapters: BTreeSet<PathBuf> = chapters.filter(|file| !file.ends_with("SUMMARY.md")).collect();
    assert_eq!(named, chapters);
}

/// Bytes below a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { size(&path) } else { fs::metadata(&path).unwrap().len() }).sum()
}

#[test]
fn fixtures_assets_and_pictures_stay_small() {
    let fixtures = size(&root().join("tests/fixtures"));
    let assets = size(&root().join("assets"));
    let pictures = size(&root().join("docs/images"));
    assert!(fixtures < 10_000_000, "tests/fixtures has {fixtures} bytes");
    assert!(fixtures + assets < 15_000_000, "with assets: {} bytes", fixtures + assets);
    assert!(pictures < 300_000, "docs/images has {pictures} bytes");
}

#[test]
fn every_dependency_has_a_reason() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let reasons = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let named: BTreeSet<&str> = reasons
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .flat_map(|crates| crates.split(", "))
        .collect();
    let tables =
        ["dependencies", "dev-dependencies", "build-dependencies"].map(|table| manifest[table].as_table().unwrap());
    for (name, source) in tables.into_iter().flatten() {
        // The workspace's own packages need no reason.
        let own = source.get("path").is_some();
        assert!(own || named.contains(name.as_str()), "{name} has no row in docs/dependencies.md");
    }
}

/// The headings of the changelog's versions: the number, or `Unreleased`, and the date.
fn versions(changelog: &str) -> Vec<(String, Option<String>)> {
    let heading = |line: &str| {
        let (version, date) = line.strip_prefix("## [")?.split_once(']')?;
        Some((version.to_owned(), date.strip_prefix(" - ").map(str::to_owned)))
    };
    changelog.lines().filter_map(heading).collect()
}

/// What is wrong with a changelog for a package of `version`.
fn changelog_faults(changelog: &str, version: &str) -> Vec<String> {
    let versions = versions(changelog);
    let mut faults = Vec::new();
    if versions.first().is_none_or(|(first, _)| first != "Unreleased") {
        faults.push("the first section is not [Unreleased]".to_owned());
    }
    let released: Vec<_> = versions.iter().filter(|(version, _)| version != "Unreleased").collect();
    // Before the first release there is nothing to name.
    if released.first().is_some_and(|(newest, _)| newest != version) {
        faults.push(format!("the newest version is not Cargo.toml's, {version}"));
    }
    for (version, date) in &released {
        let digits = |date: &String| date.len() == 10 && date.split('-').all(|part| part.parse::<u32>().is_ok());
        if !date.as_ref().is_some_and(digits) {
            faults.push(format!("{version} has no date"));
        }
    }
    let numbers = |version: &str| -> Vec<u64> { version.split('.').filter_map(|part| part.parse().ok()).collect() };
    if !released.is_sorted_by(|(newer, _), (older, _)| numbers(newer) > numbers(older)) {
        faults.push("versions are not in falling order".to_owned());
    }
    faults
}

#[test]
fn the_changelog_names_the_version() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let version = manifest["package"]["version"].as_str().unwrap();
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    assert_eq!(changelog_faults(&changelog, version), [""; 0]);

    // The check itself.
    let faults = |text: &str| changelog_faults(text, "0.2.0").len();
    let good = "## [Unreleased]\n\n## [0.2.0] - 2027-02-03\n\n## [0.1.0] - 2027-01-02\n";
    assert_eq!((faults(good), faults("## [Unreleased]\n")), (0, 0));
    for bad in [
        good.replace("## [Unreleased]\n", ""),
        good.replace("## [0.2.0] - 2027-02-03\n", ""),
        good.replace(" - 2027-01-02", ""),
        good.replace("0.1.0", "0.3.0"),
    ] {
        assert_eq!(faults(&bad), 1, "{bad}");
    }
}
