/* As much of NVIDIA's driver as makes TensorFlow believe in a GPU and open CUDA's libraries for it.
   It is libcuda.so.1 and libnvidia-ml.so.1 in one; nothing runs on it. */
#include <stddef.h>
#include <string.h>

enum { MULTIPROCESSORS = 16, MAJOR = 75, MINOR = 76 }; /* CUdevice_attribute */

int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { return *version = 12050, 0; }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, 0; }
int cuDeviceGetName(char *name, int size, int device) { return strncpy(name, "none", size), 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = (size_t)16 << 30, 0; }
int cuDeviceComputeCapability(int *major, int *minor, int device) { return *major = 7, *minor = 5, 0; }
int cuDeviceGetPCIBusId(char *id, int size, int device) { return strncpy(id, "0000:00:04.0", size), 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == MAJOR ? 7 : attribute == MINOR ? 5 : attribute == MULTIPROCESSORS ? 40 : 1;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = (void *)1, 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) { return 0; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { return *flags = 0, *active = 1, 0; }
int cuCtxGetCurrent(void **context) { return *context = NULL, 0; }
int cuCtxSetCurrent(void *context) { return 0; }
int cuCtxGetDevice(int *device) { return *device = 0, 0; }
int cuMemGetInfo_v2(size_t *free, size_t *all) { return *free = *all = (size_t)15 << 30, 0; }
int cuGetErrorName(int error, const char **name) { return *name = "NONE", 0; }
int cuGetErrorString(int error, const char **text) { return *text = "no driver", 0; }

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int error) { return "no driver"; }
