//! Launches that were written down, and their code.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use cudasim::exec::state::context::Kernel;
use cudasim::exec::{Launch, Program};
use cudasim::fatbin::{self, Entry};
use cudasim::memory::GlobalMemory;
use igpt_engine::profile::machine_code::instruction::{Instruction, decode};
use serde::Deserialize;

/// What a case launches.
#[derive(Deserialize)]
pub struct Case {
    /// The configurations that its author chose from.
    pub variants: Vec<Variant>,
    /// Address and bytes of each buffer.
    pub buffers: Vec<(u64, u64)>,
}

/// One configuration.
#[derive(Deserialize)]
pub struct Variant {
    pub name: String,
    pub launches: Vec<Written>,
}

/// A launch as it was written down.
#[derive(Deserialize)]
pub struct Written {
    kernel: String,
    ptx: Option<PathBuf>,
    cubin: Option<PathBuf>,
    fatbin: Option<PathBuf>,
    grid: [u32; 3],
    threads: [u32; 3],
    cluster: [u32; 3],
    shared: u32,
    /// Bytes of each argument in hexadecimal.
    arguments: Vec<String>,
}

/// A launch that can be counted and predicted.
pub struct Ready {
    pub kernel: Arc<Kernel>,
    pub shape: Launch,
    pub memory: GlobalMemory,
    pub code: Vec<Instruction>,
    pub registers: u32,
    /// Bytes of shared memory of a block, static and dynamic.
    pub shared: u32,
}

impl Case {
    /// Reads the file of a case.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn read(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name.replace('/', "-") + ".json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let case: Self = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        ensure!(case.variants.iter().all(|variant| !variant.launches.is_empty()), "{name} launches nothing");
        Ok(case)
    }

    /// A launch with memory of its own, which reads as zero.
    ///
    /// # Errors
    /// When its code cannot be read or is refused.
    pub fn ready(&self, launch: &Written, architecture: u32) -> Result<Ready> {
        let (text, elf) = launch.images(architecture)?;
        // Variables of the module lie in another device's addresses than what was written down.
        let memory = GlobalMemory::numbered(7, 1 << 48);
        let text = String::from_utf8(text).context("PTX that is no text")?;
        let program = Program::load(&text, &memory).map_err(|error| anyhow!("{error}"))?;
        let kernel = program.kernel(&launch.kernel).context("its PTX does not name the kernel")?;
        for (address, bytes) in &self.buffers {
            memory.place(*address, *bytes).map_err(|error| anyhow!("a buffer of {bytes} bytes: {error:?}"))?;
        }

        let code = fatbin::code_of(&elf, &launch.kernel).context("no machine code of the kernel")?;
        let registers = fatbin::registers(&elf).get(&launch.kernel).copied().context("no registers of the kernel")?;
        Ok(Ready {
            shape: launch.shape(&kernel)?,
            code: decode(architecture, code),
            registers,
            shared: kernel.static_shared as u32 + launch.shared,
            kernel,
            memory,
        })
    }
}

impl Written {
    /// Its PTX and its ELF file of machine code.
    fn images(&self, architecture: u32) -> Result<(Vec<u8>, Vec<u8>)> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        match (&self.ptx, &self.cubin, &self.fatbin) {
            (Some(ptx), Some(cubin), None) => Ok((read(ptx)?, read(cubin)?)),
            (None, None, Some(fatbin)) => {
                let binary = read(fatbin)?;
                let entries = fatbin::entries(&binary).context("a malformed fat binary")?;
                let ptx = entries.iter().find_map(|entry| match entry {
                    Entry::Ptx(of, text) if *of == architecture => Some(text.to_vec()),
                    _ => None,
                });
                let elf = entries.iter().find_map(|entry| match entry {
                    Entry::MachineCode(of, elf) if *of == architecture => Some(elf.to_vec()),
                    _ => None,
                });
                Ok((ptx.context("a fat binary without PTX")?, elf.context("a fat binary without machine code")?))
            }
            _ => bail!("neither PTX with machine code nor a fat binary"),
        }
    }

    fn shape(&self, kernel: &Kernel) -> Result<Launch> {
        ensure!(
            self.arguments.len() == kernel.parameters.len(),
            "{} arguments for {} parameters",
            self.arguments.len(),
            kernel.parameters.len()
        );
        let mut block = vec![0; kernel.parameter_bytes as usize];
        for (parameter, argument) in kernel.parameters.iter().zip(&self.arguments) {
            let bytes = bytes(argument)?;
            let at = parameter.offset as usize;
            let place = block.get_mut(at..at + bytes.len()).context("an argument beyond the parameters")?;
            place.copy_from_slice(&bytes);
        }

        let required = kernel.bounds.required_cluster;
        let cluster = required.unwrap_or(self.cluster);
        Ok(Launch {
            cluster,
            explicit_cluster: required.is_some() || cluster != [1; 3],
            ..Launch::new(self.grid, self.threads, self.shared, block)
        })
    }
}

fn bytes(hexadecimal: &str) -> Result<Vec<u8>> {
    ensure!(hexadecimal.len().is_multiple_of(2), "half a byte");
    let byte = |at| u8::from_str_radix(hexadecimal.get(at..at + 2).unwrap_or("?"), 16).context("no hexadecimal");
    (0..hexadecimal.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_and_nothing_else() {
        assert_eq!(bytes("00ff10").unwrap(), [0, 255, 16]);
        assert!(bytes("0").is_err() && bytes("zz").is_err() && bytes("0é").is_err());
    }
}
