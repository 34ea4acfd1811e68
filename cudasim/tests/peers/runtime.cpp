// The part of the CUDA runtime API that CUB, CUTLASS and the launch stubs of nvcc call, over the driver API of the library that the process has open.
// NVIDIA's own runtime cannot be used: it asks the driver for tables of functions that are nowhere documented.

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>

namespace {

// What a launch needs to know of a kernel, by the address of its host stub.
struct Entry {
    void** binary;
    const char* name;
    CUfunction function;
};

struct Variable {
    void** binary;
    const char* name;
};

// What `<<<>>>` pushes and the stub takes.
struct Configuration {
    dim3 grid;
    dim3 block;
    size_t shared;
    void* stream;
};

// What `__fatBinC_Wrapper_t` of fatbinary_section.h holds.
struct Wrapper {
    int magic;
    int version;
    const void* data;
    void* files;
};

std::mutex lock;
thread_local cudaError_t last = cudaSuccess;
thread_local Configuration pushed;

std::unordered_map<const void*, Entry>& entries() {
    static std::unordered_map<const void*, Entry> map;
    return map;
}

std::unordered_map<const void*, Variable>& variables() {
    static std::unordered_map<const void*, Variable> map;
    return map;
}

std::unordered_map<void**, CUmodule>& modules() {
    static std::unordered_map<void**, CUmodule> map;
    return map;
}

// Codes of the driver are those of the runtime.
cudaError_t keep(CUresult code) {
    if (code != CUDA_SUCCESS) {
        last = static_cast<cudaError_t>(code);
    }
    return static_cast<cudaError_t>(code);
}

cudaError_t fail(cudaError_t code) {
    last = code;
    return code;
}

// The module of a fat binary, loaded when it is first used.
CUresult module_of(void** binary, CUmodule* module) {
    auto found = modules().find(binary);
    if (found != modules().end()) {
        *module = found->second;
        return CUDA_SUCCESS;
    }
    const CUresult code = cuModuleLoadData(module, reinterpret_cast<Wrapper*>(binary)->data);
    if (code == CUDA_SUCCESS) {
        modules()[binary] = *module;
    }
    return code;
}

CUresult function_of(const void* stub, CUfunction* function) {
    const std::lock_guard<std::mutex> guard(lock);
    auto found = entries().find(stub);
    if (found == entries().end()) {
        return CUDA_ERROR_NOT_FOUND;
    }
    Entry& entry = found->second;
    if (entry.function == nullptr) {
        CUmodule module;
        CUresult code = module_of(entry.binary, &module);
        if (code == CUDA_SUCCESS) {
            code = cuModuleGetFunction(&entry.function, module, entry.name);
        }
        if (code != CUDA_SUCCESS) {
            return code;
        }
    }
    *function = entry.function;
    return CUDA_SUCCESS;
}

CUresult address_of(const void* symbol, CUdeviceptr* address, size_t* bytes) {
    const std::lock_guard<std::mutex> guard(lock);
    auto found = variables().find(symbol);
    if (found == variables().end()) {
        return CUDA_ERROR_NOT_FOUND;
    }
    CUmodule module;
    const CUresult code = module_of(found->second.binary, &module);
    return code == CUDA_SUCCESS ? cuModuleGetGlobal(address, bytes, module, found->second.name) : code;
}

// Calls the driver with a stub's function.
template <class Call>
cudaError_t with_function(const void* stub, Call call) {
    CUfunction function;
    const CUresult code = function_of(stub, &function);
    return keep(code != CUDA_SUCCESS ? code : call(function));
}

// A launch as the driver is told of it. The runtime's attributes are the driver's, by number and by layout.
CUlaunchConfig driver_config(const cudaLaunchConfig_t* config) {
    static_assert(sizeof(CUlaunchAttribute) == sizeof(cudaLaunchAttribute), "one layout");
    CUlaunchConfig copy = {};
    copy.gridDimX = config->gridDim.x;
    copy.gridDimY = config->gridDim.y;
    copy.gridDimZ = config->gridDim.z;
    copy.blockDimX = config->blockDim.x;
    copy.blockDimY = config->blockDim.y;
    copy.blockDimZ = config->blockDim.z;
    copy.sharedMemBytes = static_cast<unsigned>(config->dynamicSmemBytes);
    copy.hStream = reinterpret_cast<CUstream>(config->stream);
    copy.attrs = reinterpret_cast<CUlaunchAttribute*>(config->attrs);
    copy.numAttrs = config->numAttrs;
    return copy;
}

// Writes a launch down in a line of JSON at the end of the file that `PEERS_RECORD` names, instead of running it: `benches/peers`
// predicts its time. The fat binary goes to a file beside it. False where nothing is to be written.
bool record(const void* stub, CUfunction function, dim3 grid, dim3 block, size_t shared, dim3 cluster, void** arguments) {
    const char* path = std::getenv("PEERS_RECORD");
    if (path == nullptr) {
        return false;
    }
    const Entry& entry = entries().at(stub);
    const auto* binary = static_cast<const unsigned char*>(reinterpret_cast<Wrapper*>(entry.binary)->data);
    uint16_t header = 0;
    uint64_t bytes = 0;
    std::memcpy(&header, binary + 6, sizeof header);
    std::memcpy(&bytes, binary + 8, sizeof bytes);
    const std::string beside = std::string(path) + ".fatbin";
    if (std::FILE* file = std::fopen(beside.c_str(), "wb")) {
        std::fwrite(binary, 1, header + bytes, file);
        std::fclose(file);
    }

    std::FILE* file = std::fopen(path, "a");
    if (file == nullptr) {
        return false;
    }
    std::fprintf(
        file,
        "{\"kernel\": \"%s\", \"fatbin\": \"%s\", \"grid\": [%u, %u, %u], \"threads\": [%u, %u, %u], \"shared\": %zu, "
        "\"cluster\": [%u, %u, %u], \"arguments\": [",
        entry.name, beside.c_str(), grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, cluster.x, cluster.y,
        cluster.z);
    size_t offset = 0;
    size_t size = 0;
    for (size_t index = 0; cuFuncGetParamInfo(function, index, &offset, &size) == CUDA_SUCCESS; ++index) {
        std::fprintf(file, "%s\"", index == 0 ? "" : ", ");
        for (size_t at = 0; at < size; ++at) {
            std::fprintf(file, "%02x", static_cast<const unsigned char*>(arguments[index])[at]);
        }
        std::fprintf(file, "\"");
    }
    std::fprintf(file, "]}\n");
    std::fclose(file);
    return true;
}

CUdeviceptr device(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

}  // namespace

extern "C" {

// What nvcc's host code calls.

void** __cudaRegisterFatBinary(void* wrapper) { return static_cast<void**>(wrapper); }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }

void __cudaRegisterFunction(
    void** binary, const char* stub, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*) {
    const std::lock_guard<std::mutex> guard(lock);
    entries()[stub] = Entry{binary, name, nullptr};
}

void __cudaRegisterVar(void** binary, char* variable, char*, const char* name, int, size_t, int, int) {
    const std::lock_guard<std::mutex> guard(lock);
    variables()[variable] = Variable{binary, name};
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void* stream) {
    pushed = Configuration{grid, block, shared, stream};
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
    *grid = pushed.grid;
    *block = pushed.block;
    *shared = pushed.shared;
    *static_cast<void**>(stream) = pushed.stream;
    return cudaSuccess;
}

cudaError_t cudaLaunchKernel(
    const void* stub, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream) {
    return with_function(stub, [&](CUfunction function) {
        if (record(stub, function, grid, block, shared, dim3(1, 1, 1), arguments)) {
            return CUDA_SUCCESS;
        }
        return cuLaunchKernel(
            function, grid.x, grid.y, grid.z, block.x, block.y, block.z, static_cast<unsigned>(shared),
            reinterpret_cast<CUstream>(stream), arguments, nullptr);
    });
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* stub) {
    // The stub itself: the function is looked up at the launch, when there is a context.
    *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(stub));
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(
    cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream) {
    return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}

cudaError_t __cudaLaunchKernel_ptsz(
    cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream) {
    return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}

// Launches and what is known of kernels.

cudaError_t cudaLaunchCooperativeKernel(
    const void* stub, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream) {
    return with_function(stub, [&](CUfunction function) {
        return cuLaunchCooperativeKernel(
            function, grid.x, grid.y, grid.z, block.x, block.y, block.z, static_cast<unsigned>(shared),
            reinterpret_cast<CUstream>(stream), arguments);
    });
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* stub, void** arguments) {
    return with_function(stub, [&](CUfunction function) {
        const CUlaunchConfig copy = driver_config(config);
        dim3 cluster(1, 1, 1);
        for (unsigned at = 0; at < config->numAttrs; ++at) {
            if (config->attrs[at].id == cudaLaunchAttributeClusterDimension) {
                const auto& size = config->attrs[at].val.clusterDim;
                cluster = dim3(size.x, size.y, size.z);
            }
        }
        if (record(stub, function, config->gridDim, config->blockDim, config->dynamicSmemBytes, cluster, arguments)) {
            return CUDA_SUCCESS;
        }
        return cuLaunchKernelEx(&copy, function, arguments, nullptr);
    });
}

cudaError_t cudaFuncSetAttribute(const void* stub, cudaFuncAttribute attribute, int value) {
    return with_function(stub, [&](CUfunction function) {
        return cuFuncSetAttribute(function, static_cast<CUfunction_attribute>(attribute), value);
    });
}

cudaError_t cudaFuncSetCacheConfig(const void*, cudaFuncCache) { return cudaSuccess; }

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* stub) {
    CUfunction function;
    CUresult code = function_of(stub, &function);
    *attributes = {};
    const auto get = [&](CUfunction_attribute which) {
        int value = 0;
        if (code == CUDA_SUCCESS) {
            code = cuFuncGetAttribute(&value, which, function);
        }
        return value;
    };
    attributes->maxThreadsPerBlock = get(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    attributes->sharedSizeBytes = get(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
    attributes->constSizeBytes = get(CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES);
    attributes->localSizeBytes = get(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES);
    attributes->numRegs = get(CU_FUNC_ATTRIBUTE_NUM_REGS);
    attributes->ptxVersion = get(CU_FUNC_ATTRIBUTE_PTX_VERSION);
    attributes->binaryVersion = get(CU_FUNC_ATTRIBUTE_BINARY_VERSION);
    attributes->maxDynamicSharedSizeBytes = get(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
    return keep(code);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* stub, int threads, size_t shared) {
    return with_function(stub, [&](CUfunction function) {
        return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, shared);
    });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int* blocks, const void* stub, int threads, size_t shared, unsigned) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, stub, threads, shared);
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* stub, const cudaLaunchConfig_t* config) {
    return with_function(stub, [&](CUfunction function) {
        const CUlaunchConfig copy = driver_config(config);
        return cuOccupancyMaxActiveClusters(clusters, function, &copy);
    });
}

// Devices, streams and errors.

cudaError_t cudaGetDevice(int* number) {
    *number = 0;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int number) { return number == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice); }
cudaError_t cudaGetDeviceCount(int* count) { return keep(cuDeviceGetCount(count)); }
cudaError_t cudaDriverGetVersion(int* version) { return keep(cuDriverGetVersion(version)); }
cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int number) {
    return keep(cuDeviceGetAttribute(value, static_cast<CUdevice_attribute>(attribute), number));
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int number) {
    *properties = {};
    CUresult code = CUDA_SUCCESS;
    const auto get = [&](CUdevice_attribute which) {
        int value = 0;
        if (code == CUDA_SUCCESS) {
            code = cuDeviceGetAttribute(&value, which, number);
        }
        return value;
    };
    properties->major = get(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    properties->minor = get(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    properties->multiProcessorCount = get(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = get(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    properties->sharedMemPerBlock = get(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
    properties->sharedMemPerBlockOptin = get(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    properties->sharedMemPerMultiprocessor = get(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
    properties->maxThreadsPerMultiProcessor = get(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
    properties->l2CacheSize = get(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
    return keep(code);
}

cudaError_t cudaDeviceSynchronize() { return keep(cuCtxSynchronize()); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return keep(cuStreamSynchronize(reinterpret_cast<CUstream>(stream)));
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaGetLastError() {
    const cudaError_t code = last;
    last = cudaSuccess;
    return code;
}

cudaError_t cudaPeekAtLastError() { return last; }

const char* cudaGetErrorName(cudaError_t code) {
    const char* text = nullptr;
    return cuGetErrorName(static_cast<CUresult>(code), &text) == CUDA_SUCCESS && text != nullptr ? text
                                                                                                 : "unknown error";
}

const char* cudaGetErrorString(cudaError_t code) {
    const char* text = nullptr;
    return cuGetErrorString(static_cast<CUresult>(code), &text) == CUDA_SUCCESS && text != nullptr ? text
                                                                                                   : "unknown error";
}

cudaError_t cudaGetDriverEntryPointByVersion(
    const char* name, void** function, unsigned, unsigned long long, cudaDriverEntryPointQueryResult* result) {
    *function = dlsym(RTLD_DEFAULT, name);
    if (result != nullptr) {
        *result = *function != nullptr ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    }
    return cudaSuccess;
}

// Memory.

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
    CUdeviceptr address = 0;
    const CUresult code = bytes == 0 ? CUDA_SUCCESS : cuMemAlloc(&address, bytes);
    *pointer = reinterpret_cast<void*>(address);
    return keep(code);
}

cudaError_t cudaFree(void* pointer) { return pointer == nullptr ? cudaSuccess : keep(cuMemFree(device(pointer))); }

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    switch (kind) {
        case cudaMemcpyHostToDevice:
            return keep(cuMemcpyHtoD(device(to), from, bytes));
        case cudaMemcpyDeviceToHost:
            return keep(cuMemcpyDtoH(to, device(from), bytes));
        default:
            return keep(cuMemcpy(device(to), device(from), bytes));
    }
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    const CUstream on = reinterpret_cast<CUstream>(stream);
    switch (kind) {
        case cudaMemcpyHostToDevice:
            return keep(cuMemcpyHtoDAsync(device(to), from, bytes, on));
        case cudaMemcpyDeviceToHost:
            return keep(cuMemcpyDtoHAsync(to, device(from), bytes, on));
        default:
            return keep(cuMemcpyAsync(device(to), device(from), bytes, on));
    }
}

cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
    return keep(cuMemsetD8(device(pointer), static_cast<unsigned char>(value), bytes));
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
    return keep(
        cuMemsetD8Async(device(pointer), static_cast<unsigned char>(value), bytes, reinterpret_cast<CUstream>(stream)));
}

cudaError_t cudaGetSymbolAddress(void** pointer, const void* symbol) {
    CUdeviceptr address = 0;
    size_t bytes = 0;
    const CUresult code = address_of(symbol, &address, &bytes);
    *pointer = reinterpret_cast<void*>(address);
    return keep(code);
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t bytes, size_t offset, cudaMemcpyKind) {
    CUdeviceptr address = 0;
    size_t size = 0;
    const CUresult code = address_of(symbol, &address, &size);
    return keep(code != CUDA_SUCCESS ? code : cuMemcpyHtoD(address + offset, from, bytes));
}

}  // extern "C"
