//! The releases of CUDA that can be installed, and where their programs lie.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use nvcc::site_packages;

/// What stands in for nvcc in a toolkit 12, whose wheels have none.
const STAND_IN: &str = include_str!("nvcc.py");

/// A release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Release {
    /// 13.0, which builds what is shipped.
    #[value(name = "13")]
    Thirteen,
    /// 12.4, the oldest that the kernels are built with.
    #[value(name = "12")]
    Twelve,
}

impl Release {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Thirteen => "13.0",
            Self::Twelve => "12.4",
        }
    }

    /// The version of the PTX that it writes.
    pub fn ptx(self) -> &'static str {
        match self {
            Self::Thirteen => "9.0",
            Self::Twelve => "8.4",
        }
    }

    /// The folder in the workspace's root that it is installed in by default.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Thirteen => ".cuda",
            Self::Twelve => ".cuda-12",
        }
    }

    /// Its wheels, by version and hash.
    pub fn requirements(self) -> &'static str {
        match self {
            Self::Thirteen => include_str!("../../toolkit-requirements.txt"),
            Self::Twelve => include_str!("../../toolkit-12-requirements.txt"),
        }
    }

    /// What is downloaded, in MB.
    pub fn download(self) -> u32 {
        match self {
            Self::Thirteen => 105,
            Self::Twelve => 51,
        }
    }

    /// nvcc in the folder `dir`, if it is there.
    pub fn nvcc(self, dir: &Path) -> Option<PathBuf> {
        match self {
            Self::Thirteen => nvcc::in_toolkit(dir),
            Self::Twelve => Some(dir.join("bin/nvcc")).filter(|nvcc| nvcc.is_file()),
        }
    }

    /// The programs that the engine's build and its tests call, nvcc first.
    ///
    /// # Errors
    /// nvcc is not there.
    pub fn tools(self, dir: &Path) -> Result<Vec<PathBuf>> {
        let nvcc = self.nvcc(dir).context("nvcc is missing")?;
        let others = match self {
            Self::Thirteen => {
                ["ptxas", "fatbinary", "nvdisasm", "cuobjdump"].map(|tool| nvcc.with_file_name(tool)).to_vec()
            }
            Self::Twelve => {
                let site = site_packages(dir).context("lib/python3*/site-packages is missing")?;
                vec![site.join("nvidia/cuda_nvcc/bin/ptxas")]
            }
        };
        Ok([vec![nvcc], others].concat())
    }

    /// Adds to the unpacked wheels what they lack.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn complete(self, dir: &Path) -> Result<()> {
        if self == Self::Thirteen {
            return Ok(());
        }
        let path = dir.join("bin/nvcc");
        let write = || -> std::io::Result<()> {
            fs::write(&path, STAND_IN)?;
            #[cfg(unix)]
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether what [`complete`](Self::complete) adds is there, and is of this version.
    pub fn is_complete(self, dir: &Path) -> bool {
        self == Self::Thirteen || fs::read_to_string(dir.join("bin/nvcc")).is_ok_and(|text| text == STAND_IN)
    }
}
