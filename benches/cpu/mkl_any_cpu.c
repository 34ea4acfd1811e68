/* MKL asks itself whether the processor is one of Intel's, and takes slower kernels on others. Preloaded, this answers that it is, and what
   the processor can is asked of the processor itself. */
int mkl_serv_intel_cpu_true(void) {
    return 1;
}

int mkl_serv_intel_cpu(void) {
    return 1;
}
