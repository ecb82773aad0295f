/* A libcuda.so.1 whose device memory is the host's: enough to run the code that asks the driver and moves
   buffers, on a machine without one. It computes nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long pointer;
static int contexts, buffers;

int cuInit(unsigned flags) { return getenv("STANDIN_NO_GPU") ? 100 : 0; }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Stand-in", length); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 1u << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 16 ? 4 : 0;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &contexts; contexts++; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { contexts--; return 0; }
int cuCtxPushCurrent_v2(void *context) { contexts++; return context == &contexts ? 0 : 201; }
int cuCtxPopCurrent_v2(void **context) { *context = &contexts; contexts--; return 0; }
static void *take(size_t size) { buffers++; return malloc(size); }
static int give(void *address) { buffers--; free(address); return 0; }
int cuMemAlloc_v2(pointer *out, size_t size) {
  if (size > 1u << 28) return 2;
  *out = (pointer)take(size);
  return 0;
}
int cuMemFree_v2(pointer address) { return give((void *)address); }
int cuMemAllocHost_v2(void **out, size_t size) { *out = take(size); return 0; }
int cuMemFreeHost(void *address) { return give(address); }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) { *free_bytes = 1u << 29; *total = 1u << 30; return 0; }
int cuMemcpyHtoDAsync_v2(pointer to, const void *from, size_t size, void *stream) { memcpy((void *)to, from, size); return 0; }
int cuMemcpyDtoHAsync_v2(void *to, pointer from, size_t size, void *stream) { memcpy(to, (void *)from, size); return 0; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = take(8); return 0; }
int cuStreamDestroy_v2(void *stream) { return give(stream); }
int cuStreamSynchronize(void *stream) { return 0; }
int cuEventCreate(void **event, unsigned flags) { *event = take(8); return 0; }
int cuEventDestroy_v2(void *event) { return give(event); }
int cuEventRecord(void *event, void *stream) { return 0; }
int cuEventSynchronize(void *event) { return 0; }
int cuEventElapsedTime(float *ms, void *start, void *end) { *ms = 1.5f; return 0; }
int cuEventElapsedTime_v2(float *ms, void *start, void *end) { *ms = 1.5f; return 0; }
int cuGetErrorName(int code, const char **name) { *name = code == 801 ? "CUDA_ERROR_NOT_SUPPORTED" : "CUDA_ERROR_UNKNOWN"; return 0; }
/* Green contexts: partitions of 4 SMs and more of the device's 4. The layout is CUDA 12.4's. */
struct resource { int type; unsigned char padding[92]; unsigned sms; unsigned char rest[44]; };
static int green, partitions;
int cuDeviceGetDevResource(int device, struct resource *out, int type) { out->type = type; out->sms = 4; return 0; }
int cuDevSmResourceSplitByCount(struct resource *out, unsigned *groups, const struct resource *in,
                                struct resource *left, unsigned flags, unsigned least) {
  if (getenv("STANDIN_NO_PARTITION")) return 801;
  *out = *in;
  out->sms = least;
  left->sms = in->sms - least;
  return 0;
}
int cuDevResourceGenerateDesc(void **out, struct resource *in, unsigned count) { *out = in; return 0; }
int cuGreenCtxCreate(void **out, void *description, int device, unsigned flags) { *out = &green; partitions++; return flags == 1 ? 0 : 1; }
int cuGreenCtxDestroy(void *context) { partitions--; return context == &green ? 0 : 201; }
int cuCtxFromGreenCtx(void **out, void *context) { *out = &contexts; return context == &green ? 0 : 201; }
int cuGreenCtxStreamCreate(void **stream, void *context, unsigned flags, int priority) { *stream = take(8); return context == &green ? 0 : 201; }
int standin_partitions(void) { return partitions; }
/* Graphs: a capture counts what is recorded into it; a launch counts itself. */
static int capturing, recorded, launched;
int cuStreamBeginCapture_v2(void *stream, int mode) { capturing = 1; recorded = 0; return 0; }
int cuStreamEndCapture(void *stream, void **graph) { capturing = 0; *graph = take(8); return 0; }
int cuGraphInstantiateWithFlags(void **out, void *graph, unsigned long long flags) { *out = take(8); return 0; }
int cuGraphLaunch(void *graph, void *stream) { launched++; return 0; }
int cuGraphExecDestroy(void *graph) { return give(graph); }
int cuGraphDestroy(void *graph) { return give(graph); }
int standin_work(void) { return capturing ? ++recorded : -1; }
int standin_recorded(void) { return recorded; }
int standin_launched(void) { return launched; }
int standin_contexts(void) { return contexts; }
int standin_buffers(void) { return buffers; }

int cuGetProcAddress_v2(const char *symbol, void **function, int version, unsigned long long flags, int *status) {
  const char *endings[] = {"_v2", ""};
  void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  char name[200];
  for (int index = 0; index < 2; index++) {
    snprintf(name, sizeof name, "%s%s", symbol, endings[index]);
    *function = self ? dlsym(self, name) : 0;
    if (*function) {
      if (status) *status = 0;
      return 0;
    }
  }
  if (status) *status = 1;
  return 500;
}
int cuGetProcAddress(const char *symbol, void **function, int version, unsigned long long flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, 0);
}
