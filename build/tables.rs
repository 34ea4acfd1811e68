//! Describes the compiled kernels in Rust: parameters from the PTX, resources from `ptxas -v`.

use std::{collections::BTreeMap, fmt::Write, fs};

use crate::{Result, compile::Object};

/// The text of `kernels.rs`: `TOOLKIT`, `MODULES`, `KERNELS`, and a constant for each kernel in upper case.
pub fn modules(release: (u32, u32), objects: &[Object]) -> Result<String> {
    let (mut modules, mut kernels, mut all) = (String::new(), String::new(), String::new());
    let warnings: Vec<&str> = objects.iter().flat_map(Object::warnings).collect();
    let mut count = 0;
    for (index, object) in objects.iter().enumerate() {
        writeln!(modules, "    Module {{ name: {:?}, image: include_bytes!({:?}) }},", object.name, object.fatbin)?;

        let image = fs::read(&object.fatbin)?;
        let entries = entries(&ptx(&image).ok_or_else(|| format!("{}: no PTX in the fatbin", object.name))?)?;
        let resources = resources(&object.log)?;

        for entry in entries {
            let used = resources.get(&entry.name).filter(|used| !used.is_empty());
            let used = used.ok_or_else(|| format!("{}: ptxas said nothing of it", entry.name))?;
            let parameters: Vec<String> = entry.parameters.iter().map(Parameter::rust).collect();
            let resources: Vec<String> = used.iter().map(Resources::rust).collect();
            let upper = entry.name.to_uppercase();
            writeln!(
                kernels,
                "/// `{name}` of `kernels/{file}.cu`.\npub const {upper}: KernelInfo = KernelInfo {{ name: {name:?}, \
                 index: {count}, module: {index}, max_threads: {threads}, parameters: &[{parameters}], resources: &[{resources}] }};",
                name = entry.name,
                file = object.name,
                threads = entry.max_threads,
                parameters = parameters.join(", "),
                resources = resources.join(", "),
            )?;
            writeln!(all, "    &{upper},")?;
            count += 1;
        }
    }
    Ok(format!(
        "/// Release of the compiler that built them: major, minor.\npub const TOOLKIT: (u32, u32) = {release:?};\n\n\
         /// What it warned of.\npub static WARNINGS: &[&str] = &{warnings:?};\n\n\
         /// The fatbins.\npub static MODULES: &[Module] = &[\n{modules}];\n\n\
         /// Every kernel, by [`KernelInfo::index`].\npub static KERNELS: &[&KernelInfo] = &[\n{all}];\n\n{kernels}"
    ))
}

/// A kernel as the PTX declares it.
struct Entry {
    name: String,
    max_threads: u32,
    parameters: Vec<Parameter>,
}

/// A parameter of a kernel.
struct Parameter {
    kind: Kind,
    /// Bytes from the first parameter.
    offset: usize,
}

impl Parameter {
    /// The device's `Parameter`, as Rust.
    fn rust(&self) -> String {
        let kind = match self.kind {
            Kind::U64 => "U64".to_owned(),
            Kind::U32 => "U32".to_owned(),
            Kind::F32 => "F32".to_owned(),
            Kind::Bytes { size, alignment } => format!("Bytes {{ size: {size}, alignment: {alignment} }}"),
        };
        format!("Parameter {{ kind: {kind}, offset: {} }}", self.offset)
    }
}

/// PTX types of parameters.
#[derive(Clone, Copy)]
enum Kind {
    U64,
    U32,
    F32,
    /// A structure, passed by value.
    Bytes {
        size: usize,
        alignment: usize,
    },
}

impl Kind {
    /// Of a parameter of the PTX, `.param .u64 name` or `.param .align 64 .b8 name[128]`.
    fn of(parameter: &str) -> Option<Self> {
        match parameter.split_whitespace().skip(1).collect::<Vec<_>>()[..] {
            [".u64" | ".b64", _] => Some(Self::U64),
            [".u32" | ".s32" | ".b32", _] => Some(Self::U32),
            [".f32", _] => Some(Self::F32),
            [".align", alignment, ".b8", name] => {
                let size = name.strip_suffix(']')?.split_once('[')?.1;
                Some(Self::Bytes { size: size.parse().ok()?, alignment: alignment.parse().ok()? })
            }
            _ => None,
        }
    }

    /// Bytes, and alignment.
    fn layout(self) -> (usize, usize) {
        match self {
            Self::U64 => (8, 8),
            Self::U32 | Self::F32 => (4, 4),
            Self::Bytes { size, alignment } => (size, alignment),
        }
    }
}

/// The PTX text within an uncompressed fatbin: 16 bytes of header (its own size at 6), then entries of a header (kind at 0, its
/// own size at 4, the image's at 8) and an image; kind 1 is PTX.
fn ptx(fatbin: &[u8]) -> Option<String> {
    const PTX: usize = 1;
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let field = fatbin.get(at..at + bytes)?;
        Some(field.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    };
    let mut at = number(6, 2)?;
    loop {
        let (kind, header, size) = (number(at, 2)?, number(at + 4, 4)?, number(at + 8, 8)?);
        let image = fatbin.get(at + header..at + header + size)?;
        if kind == PTX {
            let text = image.split(|&byte| byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned()).filter(|text| text.contains(".version"));
        }
        at += header + size;
    }
}

/// The kernels of a module: for each `.entry`, its name, its list of parameters, and `.maxntid` before the body.
fn entries(ptx: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for text in ptx.split(".entry ").skip(1) {
        let (name, rest) = text.split_once('(').ok_or("an .entry without parameters")?;
        let (list, rest) = rest.split_once(')').ok_or("an .entry without an end")?;

        let (mut parameters, mut offset) = (Vec::new(), 0usize);
        for parameter in list.split(',').map(str::trim).filter(|parameter| !parameter.is_empty()) {
            let kind = Kind::of(parameter)
                .ok_or_else(|| format!("{name}: `{parameter}` is of no known kind; teach build/tables.rs about it"))?;
            let (bytes, alignment) = kind.layout();
            offset = offset.next_multiple_of(alignment);
            parameters.push(Parameter { kind, offset });
            offset += bytes;
        }

        let head = rest.split('{').next().unwrap_or_default();
        let max_threads = head
            .split(".maxntid")
            .nth(1)
            .and_then(|text| text.split([',', '\n']).next()?.trim().parse().ok())
            .ok_or_else(|| format!("{name}: a kernel needs __launch_bounds__"))?;
        entries.push(Entry { name: name.trim().to_owned(), max_threads, parameters });
    }
    if entries.is_empty() { Err("no .entry in the PTX".into()) } else { Ok(entries) }
}

/// Resources of a kernel on one architecture, as `ptxas -v` prints them.
#[derive(Default)]
struct Resources {
    arch: u32,
    registers: u32,
    stack: u32,
    spill_stores: u32,
    spill_loads: u32,
    shared: u32,
}

impl Resources {
    /// The device's `Resources`, as Rust.
    fn rust(&self) -> String {
        let Self { arch, registers, stack, spill_stores, spill_loads, shared } = self;
        format!(
            "Resources {{ arch: {arch}, registers: {registers}, stack: {stack}, spill_stores: {spill_stores}, \
             spill_loads: {spill_loads}, shared: {shared} }}"
        )
    }
}

/// By kernel: its resources on each architecture, from ptxas's log. Of each kernel the log has three lines: its name and
/// architecture, its stack and spills, its registers and shared memory.
fn resources(log: &str) -> Result<BTreeMap<String, Vec<Resources>>> {
    let mut all: BTreeMap<String, Vec<Resources>> = BTreeMap::new();
    let mut current: Option<(String, Resources)> = None;

    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let mut parts = rest.split('\'');
            let (name, arch) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
            let arch = arch.trim_start_matches("sm_").trim_end_matches('a').parse()?;
            current = Some((name.to_owned(), Resources { arch, ..Resources::default() }));
        } else if let Some((_, resources)) = current.as_mut().filter(|_| line.contains("bytes stack frame")) {
            resources.stack = before(line, " bytes stack frame")?;
            resources.spill_stores = before(line, " bytes spill stores")?;
            resources.spill_loads = before(line, " bytes spill loads")?;
        } else if line.contains("Used ") && line.contains(" registers") {
            let (name, mut resources) = current.take().ok_or("ptxas names registers of no kernel")?;
            resources.registers = before(line, " registers")?;
            if line.contains(" bytes smem") {
                resources.shared = before(line, " bytes smem")?;
            }
            all.entry(name).or_default().push(resources);
        }
    }

    for resources in all.values_mut() {
        resources.sort_by_key(|resources| resources.arch);
    }
    Ok(all)
}

/// The number that stands before `unit`.
fn before(line: &str, unit: &str) -> Result<u32> {
    let number = line.split(unit).next().and_then(|text| text.rsplit([' ', ',']).next());
    Ok(number
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| format!("ptxas: no number before `{unit}` in `{line}`"))?)
}
