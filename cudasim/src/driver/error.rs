//! The driver's error codes, as `cuda.h` numbers them, with their names and texts.

use std::ffi::CStr;

use crate::report::FaultKind;

macro_rules! codes {
    ($($name:ident $code:literal $symbol:literal $text:literal,)*) => {
        /// A `CUresult` other than success.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i32)]
        pub enum CudaError {
            $(#[doc = concat!("Code ", $code, ".")] $name = $code,)*
        }

        impl CudaError {
            /// The error of this code.
            pub fn from_code(code: i32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// The name in `cuda.h` and the text.
            pub fn texts(self) -> (&'static CStr, &'static CStr) {
                match self { $(Self::$name => ($symbol, $text),)* }
            }
        }
    };
}

// Generated once from cuda.h 13.0; the texts are those that the driver gives where they are known.
codes! {
    InvalidValue 1 c"CUDA_ERROR_INVALID_VALUE" c"invalid argument",
    OutOfMemory 2 c"CUDA_ERROR_OUT_OF_MEMORY" c"out of memory",
    NotInitialized 3 c"CUDA_ERROR_NOT_INITIALIZED" c"initialization error",
    Deinitialized 4 c"CUDA_ERROR_DEINITIALIZED" c"driver shutting down",
    ProfilerDisabled 5 c"CUDA_ERROR_PROFILER_DISABLED" c"profiler disabled",
    ProfilerNotInitialized 6 c"CUDA_ERROR_PROFILER_NOT_INITIALIZED" c"profiler not initialized",
    ProfilerAlreadyStarted 7 c"CUDA_ERROR_PROFILER_ALREADY_STARTED" c"profiler already started",
    ProfilerAlreadyStopped 8 c"CUDA_ERROR_PROFILER_ALREADY_STOPPED" c"profiler already stopped",
    StubLibrary 34 c"CUDA_ERROR_STUB_LIBRARY" c"stub library",
    CallRequiresNewerDriver 36 c"CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER" c"call requires newer driver",
    DeviceUnavailable 46 c"CUDA_ERROR_DEVICE_UNAVAILABLE" c"device unavailable",
    NoDevice 100 c"CUDA_ERROR_NO_DEVICE" c"no CUDA-capable device is detected",
    InvalidDevice 101 c"CUDA_ERROR_INVALID_DEVICE" c"invalid device ordinal",
    DeviceNotLicensed 102 c"CUDA_ERROR_DEVICE_NOT_LICENSED" c"device not licensed",
    InvalidImage 200 c"CUDA_ERROR_INVALID_IMAGE" c"device kernel image is invalid",
    InvalidContext 201 c"CUDA_ERROR_INVALID_CONTEXT" c"invalid device context",
    ContextAlreadyCurrent 202 c"CUDA_ERROR_CONTEXT_ALREADY_CURRENT" c"context already current",
    MapFailed 205 c"CUDA_ERROR_MAP_FAILED" c"map failed",
    UnmapFailed 206 c"CUDA_ERROR_UNMAP_FAILED" c"unmap failed",
    ArrayIsMapped 207 c"CUDA_ERROR_ARRAY_IS_MAPPED" c"array is mapped",
    AlreadyMapped 208 c"CUDA_ERROR_ALREADY_MAPPED" c"already mapped",
    NoBinaryForGpu 209 c"CUDA_ERROR_NO_BINARY_FOR_GPU" c"no kernel image is available for execution on the device",
    AlreadyAcquired 210 c"CUDA_ERROR_ALREADY_ACQUIRED" c"already acquired",
    NotMapped 211 c"CUDA_ERROR_NOT_MAPPED" c"not mapped",
    NotMappedAsArray 212 c"CUDA_ERROR_NOT_MAPPED_AS_ARRAY" c"not mapped as array",
    NotMappedAsPointer 213 c"CUDA_ERROR_NOT_MAPPED_AS_POINTER" c"not mapped as pointer",
    EccUncorrectable 214 c"CUDA_ERROR_ECC_UNCORRECTABLE" c"ecc uncorrectable",
    UnsupportedLimit 215 c"CUDA_ERROR_UNSUPPORTED_LIMIT" c"limit is not supported on this architecture",
    ContextAlreadyInUse 216 c"CUDA_ERROR_CONTEXT_ALREADY_IN_USE" c"context already in use",
    PeerAccessUnsupported 217 c"CUDA_ERROR_PEER_ACCESS_UNSUPPORTED" c"peer access is not supported between these two devices",
    InvalidPtx 218 c"CUDA_ERROR_INVALID_PTX" c"a PTX JIT compilation failed",
    InvalidGraphicsContext 219 c"CUDA_ERROR_INVALID_GRAPHICS_CONTEXT" c"invalid graphics context",
    NvlinkUncorrectable 220 c"CUDA_ERROR_NVLINK_UNCORRECTABLE" c"nvlink uncorrectable",
    JitCompilerNotFound 221 c"CUDA_ERROR_JIT_COMPILER_NOT_FOUND" c"jit compiler not found",
    UnsupportedPtxVersion 222 c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION" c"the provided PTX was compiled with an unsupported toolchain.",
    JitCompilationDisabled 223 c"CUDA_ERROR_JIT_COMPILATION_DISABLED" c"jit compilation disabled",
    UnsupportedExecAffinity 224 c"CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY" c"unsupported exec affinity",
    UnsupportedDevsideSync 225 c"CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC" c"unsupported devside sync",
    Contained 226 c"CUDA_ERROR_CONTAINED" c"contained",
    InvalidSource 300 c"CUDA_ERROR_INVALID_SOURCE" c"device kernel image is invalid",
    FileNotFound 301 c"CUDA_ERROR_FILE_NOT_FOUND" c"file not found",
    SharedObjectSymbolNotFound 302 c"CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND" c"shared object symbol not found",
    SharedObjectInitFailed 303 c"CUDA_ERROR_SHARED_OBJECT_INIT_FAILED" c"shared object init failed",
    OperatingSystem 304 c"CUDA_ERROR_OPERATING_SYSTEM" c"OS call failed or operation not supported on this OS",
    InvalidHandle 400 c"CUDA_ERROR_INVALID_HANDLE" c"invalid resource handle",
    IllegalState 401 c"CUDA_ERROR_ILLEGAL_STATE" c"the operation cannot be performed in the present state",
    LossyQuery 402 c"CUDA_ERROR_LOSSY_QUERY" c"lossy query",
    NotFound 500 c"CUDA_ERROR_NOT_FOUND" c"named symbol not found",
    NotReady 600 c"CUDA_ERROR_NOT_READY" c"device not ready",
    IllegalAddress 700 c"CUDA_ERROR_ILLEGAL_ADDRESS" c"an illegal memory access was encountered",
    LaunchOutOfResources 701 c"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES" c"too many resources requested for launch",
    LaunchTimeout 702 c"CUDA_ERROR_LAUNCH_TIMEOUT" c"the launch timed out and was terminated",
    LaunchIncompatibleTexturing 703 c"CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING" c"launch incompatible texturing",
    PeerAccessAlreadyEnabled 704 c"CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED" c"peer access already enabled",
    PeerAccessNotEnabled 705 c"CUDA_ERROR_PEER_ACCESS_NOT_ENABLED" c"peer access not enabled",
    PrimaryContextActive 708 c"CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE" c"cannot set while device is active in this process",
    ContextIsDestroyed 709 c"CUDA_ERROR_CONTEXT_IS_DESTROYED" c"context is destroyed",
    Assert 710 c"CUDA_ERROR_ASSERT" c"device-side assert triggered",
    TooManyPeers 711 c"CUDA_ERROR_TOO_MANY_PEERS" c"too many peers",
    HostMemoryAlreadyRegistered 712 c"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED" c"part or all of the requested memory range is already mapped",
    HostMemoryNotRegistered 713 c"CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED" c"pointer does not correspond to a registered memory region",
    HardwareStackError 714 c"CUDA_ERROR_HARDWARE_STACK_ERROR" c"hardware stack error",
    IllegalInstruction 715 c"CUDA_ERROR_ILLEGAL_INSTRUCTION" c"an illegal instruction was encountered",
    MisalignedAddress 716 c"CUDA_ERROR_MISALIGNED_ADDRESS" c"misaligned address",
    InvalidAddressSpace 717 c"CUDA_ERROR_INVALID_ADDRESS_SPACE" c"operation not supported on global/shared address space",
    InvalidPc 718 c"CUDA_ERROR_INVALID_PC" c"invalid program counter",
    LaunchFailed 719 c"CUDA_ERROR_LAUNCH_FAILED" c"unspecified launch failure",
    CooperativeLaunchTooLarge 720 c"CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE" c"too many blocks in cooperative launch",
    TensorMemoryLeak 721 c"CUDA_ERROR_TENSOR_MEMORY_LEAK" c"tensor memory leak",
    NotPermitted 800 c"CUDA_ERROR_NOT_PERMITTED" c"operation not permitted",
    NotSupported 801 c"CUDA_ERROR_NOT_SUPPORTED" c"operation not supported",
    SystemNotReady 802 c"CUDA_ERROR_SYSTEM_NOT_READY" c"system not ready",
    SystemDriverMismatch 803 c"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" c"system driver mismatch",
    CompatNotSupportedOnDevice 804 c"CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE" c"compat not supported on device",
    MpsConnectionFailed 805 c"CUDA_ERROR_MPS_CONNECTION_FAILED" c"mps connection failed",
    MpsRpcFailure 806 c"CUDA_ERROR_MPS_RPC_FAILURE" c"mps rpc failure",
    MpsServerNotReady 807 c"CUDA_ERROR_MPS_SERVER_NOT_READY" c"mps server not ready",
    MpsMaxClientsReached 808 c"CUDA_ERROR_MPS_MAX_CLIENTS_REACHED" c"mps max clients reached",
    MpsMaxConnectionsReached 809 c"CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED" c"mps max connections reached",
    MpsClientTerminated 810 c"CUDA_ERROR_MPS_CLIENT_TERMINATED" c"mps client terminated",
    CdpNotSupported 811 c"CUDA_ERROR_CDP_NOT_SUPPORTED" c"cdp not supported",
    CdpVersionMismatch 812 c"CUDA_ERROR_CDP_VERSION_MISMATCH" c"cdp version mismatch",
    StreamCaptureUnsupported 900 c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" c"operation not permitted when stream is capturing",
    StreamCaptureInvalidated 901 c"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" c"operation failed due to a previous error during capture",
    StreamCaptureMerge 902 c"CUDA_ERROR_STREAM_CAPTURE_MERGE" c"operation would result in a merge of separate capture sequences",
    StreamCaptureUnmatched 903 c"CUDA_ERROR_STREAM_CAPTURE_UNMATCHED" c"capture was not ended in the same stream as it began",
    StreamCaptureUnjoined 904 c"CUDA_ERROR_STREAM_CAPTURE_UNJOINED" c"capturing stream has unjoined work",
    StreamCaptureIsolation 905 c"CUDA_ERROR_STREAM_CAPTURE_ISOLATION" c"dependency created on uncaptured work in another stream",
    StreamCaptureImplicit 906 c"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT" c"operation would make the legacy stream depend on a capturing blocking stream",
    CapturedEvent 907 c"CUDA_ERROR_CAPTURED_EVENT" c"operation not permitted on an event last recorded in a capturing stream",
    StreamCaptureWrongThread 908 c"CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD" c"attempt to terminate a thread-local capture sequence from another thread",
    Timeout 909 c"CUDA_ERROR_TIMEOUT" c"timeout",
    GraphExecUpdateFailure 910 c"CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE" c"the graph update was not performed because it included changes which violated constraints specific to instantiated graph update",
    ExternalDevice 911 c"CUDA_ERROR_EXTERNAL_DEVICE" c"external device",
    InvalidClusterSize 912 c"CUDA_ERROR_INVALID_CLUSTER_SIZE" c"cluster misconfiguration",
    FunctionNotLoaded 913 c"CUDA_ERROR_FUNCTION_NOT_LOADED" c"a function or resource is not loaded",
    InvalidResourceType 914 c"CUDA_ERROR_INVALID_RESOURCE_TYPE" c"invalid resource type",
    InvalidResourceConfiguration 915 c"CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION" c"invalid resource configuration",
    KeyRotation 916 c"CUDA_ERROR_KEY_ROTATION" c"key rotation",
    Unknown 999 c"CUDA_ERROR_UNKNOWN" c"unknown error",
}

impl CudaError {
    /// The number.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The name in `cuda.h`.
    pub fn name(self) -> &'static str {
        self.texts().0.to_str().unwrap_or("")
    }

    /// What a GPU's driver returns after a fault of this kind. What only a checker sees counts as a failed launch.
    pub fn of_fault(kind: FaultKind) -> Self {
        match kind {
            FaultKind::OutOfBounds => Self::IllegalAddress,
            FaultKind::Misaligned => Self::MisalignedAddress,
            FaultKind::IllegalInstruction => Self::IllegalInstruction,
            FaultKind::InvalidAddressSpace => Self::InvalidAddressSpace,
            FaultKind::InvalidCall => Self::InvalidPc,
            FaultKind::Assert => Self::Assert,
            FaultKind::Timeout => Self::LaunchTimeout,
            _ => Self::LaunchFailed,
        }
    }
}

impl std::fmt::Display for CudaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, text) = self.texts();
        write!(f, "{}: {}", name.to_string_lossy(), text.to_string_lossy())
    }
}

impl std::error::Error for CudaError {}

/// A result of the driver.
pub type Result<T, E = CudaError> = std::result::Result<T, E>;
