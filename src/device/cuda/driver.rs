//! The CUDA driver: is it there, its errors as values, and the launch of a kernel.

use std::cell::OnceCell;
use std::ffi::{c_uint, c_void};
use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::sys::{
    CUdevice_attribute_enum as Attribute, CUfunction, CUfunction_attribute_enum as FunctionAttribute, CUstream,
};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError};
use cudarc::nvrtc::Ptx;

use super::context::bind;
use super::error::{error, failed};
use super::kernel::{Arguments, Grid, KERNELS, Kernel, KernelInfo, MODULES};
use super::streams::Streams;
use super::timing::Timer;
use super::trace::{TracedCard, Tracer};
use super::{functions, kernel, release};
use crate::device::{Error, Result};

/// Oldest compute capability that the kernels run on.
pub(super) const OLDEST: (i32, i32) = (8, 0);

/// Largest number of blocks in y and in z.
const MAX_BLOCKS: usize = 65_535;

/// What is wrong with a build without `nvcc`.
const NO_KERNELS: &str = "this build has no CUDA kernels";

/// The driver's two ways to launch a kernel.
type Launch = unsafe fn(
    CUfunction,
    (c_uint, c_uint, c_uint),
    (c_uint, c_uint, c_uint),
    c_uint,
    CUstream,
    &mut [*mut c_void],
) -> std::result::Result<(), DriverError>;

/// A device's context, its streams, and the kernels loaded so far.
pub(super) struct Driver {
    ///
    /// Neither context nor stream where the device only counts what memory work would take: nothing is launched there.
    context: Option<Arc<CudaContext>>,
    pub(super) stream: Option<Arc<CudaStream>>,
    /// That stream, and the one beside it.
    pub(super) streams: Rc<Streams>,
    /// Where it writes down what would be launched, on a device that only counts and was asked to.
    pub(super) tracer: Option<Rc<Tracer>>,
    /// What the device calls itself.
    pub(super) name: String,
    /// Major and minor compute capability.
    pub(super) capability: (i32, i32),
    /// Streaming multiprocessors.
    pub(super) multiprocessors: usize,
    /// Largest shared memory of a block, in bytes.
    pub(super) shared_limit: usize,
    /// Bytes of the device's memory.
    pub(super) total_memory: u64,
    /// Where it is on the bus.
    pub(super) pci_bus_id: Option<String>,
    pub(super) timer: Timer,
    modules: Vec<OnceCell<Arc<CudaModule>>>,
    functions: Vec<OnceCell<CudaFunction>>,
}

impl Driver {
    /// Opens device `ordinal`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without kernels, driver, or such a device, or if it is too old; each with what to do.
    pub(super) fn open(ordinal: usize) -> Result<Self> {
        if KERNELS.is_empty() {
            return Err(Error::unavailable(
                NO_KERNELS,
                "install the compiler with `cargo xtask toolkit` (no GPU needed) and build again, or use --device cpu",
            ));
        }
        functions::check()?;
        Self::open_present(ordinal)
    }

    fn open_present(ordinal: usize) -> Result<Self> {
        let unusable = |error: DriverError| {
            let text = error.error_string().ok().and_then(|text| text.to_str().ok()).unwrap_or("unknown error");
            Error::unavailable(
                format!("CUDA device {ordinal} cannot be used: {text}"),
                "see nvidia-smi, or use --device cpu",
            )
        };

        let context = CudaContext::new(ordinal).map_err(unusable)?;
        // SAFETY: what the two streams must order, `Streams` orders.
        unsafe { context.disable_event_tracking() };

        // Is it new enough for the kernels?
        let attribute = |attribute| context.attribute(attribute).map_err(failed("cuDeviceGetAttribute"));
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        let name = context.name().map_err(failed("cuDeviceGetName"))?;
        if capability < OLDEST {
            return Err(Error::unavailable(
                format!(
                    "{name} has compute capability {}.{}, and the kernels need {}.{} (A100 or later)",
                    capability.0, capability.1, OLDEST.0, OLDEST.1
                ),
                "use --device cpu",
            ));
        }

        if let Some(misfit) = release::misfit(release::of_driver()?, kernel::release(), capability) {
            return Err(misfit);
        }

        // What launches are checked against, and room for the modules and kernels that will be loaded.
        let count = |value: i32| usize::try_from(value).unwrap_or(0);
        let stream = context.new_stream().map_err(failed("cuStreamCreate"))?;
        Ok(Self {
            multiprocessors: count(attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?).max(1),
            shared_limit: count(attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?),
            streams: Streams::new(Some(Arc::clone(&stream))),
            stream: Some(stream),
            total_memory: context.total_mem().map_err(failed("cuDeviceTotalMem"))? as u64,
            timer: Timer::default(),
            pci_bus_id: Some(pci_bus_id(attribute)?),
            context: Some(context),
            tracer: None,
            name,
            capability,
            modules: MODULES.iter().map(|_| OnceCell::new()).collect(),
            functions: KERNELS.iter().map(|_| OnceCell::new()).collect(),
        })
    }

    /// No driver at all, for a device that only counts.
    pub(super) fn counting() -> Self {
        Self {
            context: None,
            stream: None,
            streams: Streams::new(None),
            tracer: None,
            name: "no device".to_owned(),
            capability: OLDEST,
            // An H100's. Grids of element-wise kernels hang on it, memory does not.
            multiprocessors: 132,
            shared_limit: usize::MAX,
            total_memory: u64::MAX,
            pci_bus_id: None,
            timer: Timer::default(),
            modules: Vec::new(),
            functions: Vec::new(),
        }
    }

    /// The same, which writes down what would be launched on a card.
    pub(super) fn tracing(card: TracedCard) -> Self {
        let TracedCard { capability, multiprocessors, shared_limit } = card;
        Self { tracer: Some(Rc::default()), capability, multiprocessors, shared_limit, ..Self::counting() }
    }

    /// Whether it runs what is compiled for compute capability 9.0 alone: wgmma, and copies by tensor maps.
    pub(super) fn is_hopper(&self) -> bool {
        self.capability.0 == 9
    }

    /// Waits until all that was launched is done.
    pub(super) fn synchronize(&self) -> Result<()> {
        self.streams.synchronize()
    }

    /// Launches `kernel`, unless the grid is one that no device has.
    ///
    /// # Safety
    /// `arguments` must be what the contract at the head of the kernel's file asks for: pointers into this device's
    /// memory, to as many elements and as aligned as it says.
    pub(super) unsafe fn launch<A: Arguments>(&self, kernel: &Kernel<A>, grid: Grid, arguments: A) -> Result<()> {
        self.streams.check()?;
        if self.stream.is_none() && self.tracer.is_none() {
            return Ok(());
        }
        let Some(info) = kernel.info() else {
            return Err(Error::unavailable(NO_KERNELS, "use --device cpu"));
        };
        let call = |what: &str| format!("{what}({})", info.name);

        // Would the device take this grid?
        let [x, y, z] = grid.blocks;
        let [width, height] = grid.threads;
        let fits = x > 0 && x <= i32::MAX as usize && [y, z].iter().all(|&blocks| (1..=MAX_BLOCKS).contains(&blocks));
        if !fits || width * height > info.max_threads || grid.shared > self.shared_limit {
            return Err(Error::Driver {
                call: call("cuLaunchKernel"),
                message: format!(
                    "a grid of {:?} blocks with {} bytes of shared memory is more than the device has; use a smaller batch",
                    grid.blocks, grid.shared
                ),
            });
        }

        if let Some(tracer) = &self.tracer {
            tracer.launch(info, grid, &arguments);
        }
        let Some(stream) = self.streams.current() else { return Ok(()) };

        // The launch, between two events if launches are timed.
        bind(stream)?;
        let function = self.function(info, grid.shared)?;
        let before = self.timer.before(stream)?;
        let (launch, name): (Launch, _) = match grid.cooperative {
            true => (cudarc::driver::result::launch_cooperative_kernel, "cuLaunchCooperativeKernel"),
            false => (cudarc::driver::result::launch_kernel, "cuLaunchKernel"),
        };
        arguments.with_addresses(|addresses| {
            let (blocks, threads) = ((x as u32, y as u32, z as u32), (width, height, 1));
            // SAFETY: the arguments are as many and of the types that the PTX declares, which `Kernel::new` has
            // checked; what they point to, the caller answers for.
            let result = unsafe {
                launch(function.cu_function(), blocks, threads, grid.shared as u32, stream.cu_stream(), addresses)
            };
            result.map_err(|cause| error(call(name), cause))
        })?;
        self.timer.after(info.name, before, stream)
    }

    /// The loaded kernel, allowed dynamic shared memory if it uses any.
    fn function(&self, info: &'static KernelInfo, shared: usize) -> Result<&CudaFunction> {
        if self.functions[info.index].get().is_none() {
            let module = self.module(info.module)?;
            let function = module.load_function(info.name);
            let function = function.map_err(|cause| error(format!("cuModuleGetFunction({})", info.name), cause))?;

            if shared > 0 {
                // All there is, once: later launches may ask for more than this one.
                let fixed = info.resources.iter().map(|used| used.shared as usize).max().unwrap_or(0);
                let max = self.shared_limit.saturating_sub(fixed);
                let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                let set = function.set_attribute(attribute, max as i32);
                set.map_err(|cause| error(format!("cuFuncSetAttribute({}, {max} bytes)", info.name), cause))?;
            }

            let _ = self.functions[info.index].set(function);
        }
        self.functions[info.index].get().ok_or_else(|| not_loaded(info.name))
    }

    fn module(&self, index: usize) -> Result<&Arc<CudaModule>> {
        if self.modules[index].get().is_none() {
            let module = &MODULES[index];
            let context = self.context.as_ref().ok_or_else(|| not_loaded(module.name))?;
            let loaded = context.load_module(Ptx::from_binary(module.loaded_image().into_owned()));
            let loaded = loaded.map_err(|cause| error(format!("cuModuleLoadData({}.cu)", module.name), cause))?;
            let _ = self.modules[index].set(loaded);
        }
        self.modules[index].get().ok_or_else(|| not_loaded(MODULES[index].name))
    }
}

/// Where a device is on the PCI bus, as NVML spells it: domain, bus, device, function. `CUDA_VISIBLE_DEVICES` does not change it.
pub(super) fn pci_bus_id<E>(
    attribute: impl Fn(Attribute) -> std::result::Result<i32, E>,
) -> std::result::Result<String, E> {
    let [domain, bus, device] = [
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)?,
    ];
    Ok(format!("{domain:08x}:{bus:02x}:{device:02x}.0"))
}

/// The error of a kernel or module that is not there although it was just loaded.
fn not_loaded(name: &str) -> Error {
    Error::unavailable(format!("the CUDA kernel {name} is not loaded"), "start again, or use --device cpu")
}
