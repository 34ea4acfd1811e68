//! Kernels as typed values: the arguments of a launch are checked against the PTX when this crate is compiled.
//!
//! The build script writes a [`KernelInfo`] for every kernel. `kernel!` makes of it a [`Kernel`] of a tuple of
//! arguments, in a constant; if the kernel takes other parameters, the constant does not evaluate and the crate does
//! not compile.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::marker::PhantomData;

use super::pointer::Pointer;

/// A file of kernels.
pub struct Module {
    /// The file's name without `.cu`.
    pub name: &'static str,
    /// Its fatbin.
    pub image: &'static [u8],
}

/// PTX type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pointer, or a count of 64 bits.
    U64,
    /// An integer of 32 bits.
    U32,
    /// A float.
    F32,
    /// A structure, passed by value.
    Bytes {
        /// Its bytes.
        size: usize,
        /// What it begins at a multiple of.
        alignment: usize,
    },
}
use Kind::{F32, U32, U64};

impl Kind {
    /// A structure of Rust's.
    pub(super) const fn structure<T>() -> Self {
        Self::Bytes { size: size_of::<T>(), alignment: align_of::<T>() }
    }

    const fn is(self, other: Self) -> bool {
        match (self, other) {
            (U64, U64) | (U32, U32) | (F32, F32) => true,
            (Self::Bytes { size, alignment }, Self::Bytes { size: other_size, alignment: other_alignment }) => {
                size == other_size && alignment == other_alignment
            }
            _ => false,
        }
    }
}

/// A kernel's parameter, as the PTX declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its type, which says its size and alignment too.
    pub kind: Kind,
    /// Bytes before it in the kernel's parameters.
    pub offset: usize,
}

/// What a kernel takes on one architecture, as `ptxas -v` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Compute capability, times 10.
    pub arch: u32,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of a thread's stack.
    pub stack: u32,
    /// Bytes stored because registers ran out.
    pub spill_stores: u32,
    /// Bytes loaded because registers ran out.
    pub spill_loads: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
}

/// A compiled kernel.
#[derive(Debug)]
pub struct KernelInfo {
    /// Its name in the PTX.
    pub name: &'static str,
    /// Its index in [`KERNELS`].
    pub index: usize,
    /// Its file's index in [`MODULES`].
    pub module: usize,
    /// Largest number of threads of a block.
    pub max_threads: u32,
    /// In order.
    pub parameters: &'static [Parameter],
    /// By architecture.
    pub resources: &'static [Resources],
}

/// What the build script wrote; empty where it found no compiler.
mod generated {
    #[allow(unused_imports)]
    use super::Kind::Bytes;
    #[allow(unused_imports)]
    use super::{F32, KernelInfo, Module, Parameter, Resources, U32, U64};

    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}
#[cfg(igpt_kernels)]
pub(super) use generated::*;
pub use generated::{KERNELS, MODULES, TOOLKIT, WARNINGS};

thread_local! {
    /// By module: what [`plant`] put in its fatbin's place.
    static PLANTED: RefCell<BTreeMap<String, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
    /// Release of the compiler that built what is loaded.
    static RELEASE: Cell<(u32, u32)> = const { Cell::new(TOOLKIT) };
}

/// For tests, which plant bugs in kernels to see that they are found: modules called `module` that this thread loads
/// from now on are loaded from `image`.
#[doc(hidden)]
pub fn plant(module: &str, image: Vec<u8>) {
    PLANTED.with_borrow_mut(|planted| planted.insert(module.to_owned(), image));
}

/// For tests: what was planted on this thread is of this release.
#[doc(hidden)]
pub fn plant_release(release: (u32, u32)) {
    RELEASE.set(release);
}

/// Release of the compiler that built what is loaded.
pub(super) fn release() -> (u32, u32) {
    RELEASE.get()
}

impl Module {
    /// What this thread loads: the fatbin, or what [`plant`] put in its place.
    pub fn loaded_image(&self) -> Cow<'static, [u8]> {
        let planted = PLANTED.with_borrow(|planted| planted.get(self.name).cloned());
        planted.map_or(Cow::Borrowed(self.image), Cow::Owned)
    }
}

/// A value that a kernel takes.
pub trait Argument: Copy {
    /// As the PTX has it.
    const KIND: Kind;
}
impl Argument for Pointer {
    const KIND: Kind = U64;
}
impl Argument for u64 {
    const KIND: Kind = U64;
}
impl Argument for i32 {
    const KIND: Kind = U32;
}
impl Argument for f32 {
    const KIND: Kind = F32;
}

/// A kernel's arguments: a tuple.
pub trait Arguments: Copy {
    /// Of each.
    const KINDS: &'static [Kind];
    /// Calls `launch` with the address of each.
    fn with_addresses<R>(&self, launch: impl FnOnce(&mut [*mut c_void]) -> R) -> R;
}

macro_rules! tuples {
    ($(($($name:ident)*))*) => {
        $(impl<$($name: Argument),*> Arguments for ($($name,)*) {
            const KINDS: &'static [Kind] = &[$($name::KIND),*];

            fn with_addresses<R>(&self, launch: impl FnOnce(&mut [*mut c_void]) -> R) -> R {
                #[allow(non_snake_case)]
                let ($($name,)*) = self;
                launch(&mut [$(std::ptr::from_ref($name).cast_mut().cast()),*])
            }
        })*
    };
}
tuples! {
    (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) (A B C D E F G H I) (A B C D E F G H I J)
    (A B C D E F G H I J K) (A B C D E F G H I J K L) (A B C D E F G H I J K L M)
}

/// A kernel that takes `A`.
pub struct Kernel<A> {
    info: Option<&'static KernelInfo>,
    arguments: PhantomData<fn(A)>,
}

impl<A: Arguments> Kernel<A> {
    /// The kernel of `info`.
    ///
    /// # Panics
    /// If its parameters are not `A`: when the constant is evaluated, so when this crate is compiled.
    #[cfg_attr(not(igpt_kernels), allow(dead_code))]
    pub const fn new(info: &'static KernelInfo) -> Self {
        assert!(A::KINDS.len() == info.parameters.len(), "the kernel takes another number of arguments");
        let mut index = 0;
        while index < A::KINDS.len() {
            assert!(A::KINDS[index].is(info.parameters[index].kind), "the kernel takes an argument of another type");
            index += 1;
        }
        Self { info: Some(info), arguments: PhantomData }
    }

    /// The kernel of a build without kernels, which never opens a device.
    #[cfg_attr(igpt_kernels, allow(dead_code))]
    pub const fn absent() -> Self {
        Self { info: None, arguments: PhantomData }
    }

    /// What is known of it.
    pub const fn info(&self) -> Option<&'static KernelInfo> {
        self.info
    }
}

/// The kernel of that constant in `kernels.rs`.
#[cfg(igpt_kernels)]
macro_rules! kernel {
    ($name:ident) => {
        $crate::device::cuda::kernel::Kernel::new(&$crate::device::cuda::kernel::$name)
    };
}
#[cfg(not(igpt_kernels))]
macro_rules! kernel {
    ($name:ident) => {
        $crate::device::cuda::kernel::Kernel::absent()
    };
}
pub(super) use kernel;

/// Blocks of a launch, threads of a block, and its dynamic shared memory in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// x, y, z.
    pub blocks: [usize; 3],
    /// x, y.
    pub threads: [u32; 2],
    /// Bytes.
    pub shared: usize,
    /// Whether all blocks run at once, because they wait for one another: a launch of more than fit the device fails.
    pub cooperative: bool,
}

impl Grid {
    /// `blocks` blocks of `threads` threads in a row.
    pub fn line(blocks: usize, threads: u32) -> Self {
        Self { blocks: [blocks, 1, 1], threads: [threads, 1], shared: 0, cooperative: false }
    }

    /// The same with dynamic shared memory.
    pub fn with_shared(self, shared: usize) -> Self {
        Self { shared, ..self }
    }

    /// The same with all blocks at once.
    pub fn cooperative(self) -> Self {
        Self { cooperative: true, ..self }
    }
}

#[cfg(all(test, igpt_kernels))]
mod tests {
    use super::*;

    #[test]
    fn nothing_spills() {
        assert!(KERNELS.len() > 50);
        for kernel in KERNELS {
            let architectures: Vec<u32> = kernel.resources.iter().map(|used| used.arch).collect();
            let expected = if kernel.name.contains("_sm90") { vec![90] } else { vec![80, 90] };
            assert_eq!(architectures, expected, "{}", kernel.name);
            for used in kernel.resources {
                assert_eq!(
                    (used.spill_stores, used.spill_loads, used.stack),
                    (0, 0, 0),
                    "{} on {}",
                    kernel.name,
                    used.arch
                );
                // A block of as many threads as it takes fits a multiprocessor.
                assert!(used.registers.next_multiple_of(8) * kernel.max_threads <= 65_536, "{}", kernel.name);
            }
        }
    }

    /// Only in the project's own checks, which set `IGPT_STRICT`: a newer compiler may warn of more.
    #[test]
    fn the_compiler_warns_of_nothing() {
        if std::env::var_os("IGPT_STRICT").is_some() {
            assert!(WARNINGS.is_empty(), "{WARNINGS:#?}");
        }
    }

    #[test]
    fn indices_and_offsets_are_right() {
        for (index, kernel) in KERNELS.iter().enumerate() {
            assert_eq!(kernel.index, index);
            assert!(MODULES[kernel.module].image.starts_with(&0xba55_ed50u32.to_le_bytes()));
            let mut offset = 0;
            for parameter in kernel.parameters {
                let (size, alignment) = match parameter.kind {
                    Kind::U64 => (8, 8),
                    Kind::U32 | Kind::F32 => (4, 4),
                    Kind::Bytes { size, alignment } => (size, alignment),
                };
                assert_eq!(parameter.offset, usize::next_multiple_of(offset, alignment), "{}", kernel.name);
                offset = parameter.offset + size;
            }
        }
    }

    #[test]
    #[should_panic(expected = "another number")]
    fn too_few_arguments_do_not_fit() {
        Kernel::<(Pointer, Pointer, i32)>::new(&SUM_PARTIALS);
    }

    #[test]
    #[should_panic(expected = "another type")]
    fn another_type_does_not_fit() {
        Kernel::<(Pointer, Pointer, i32, f32)>::new(&SUM_PARTIALS);
    }
}
