/* portkit_device.h: the driver of a device as a shared library.
 *
 * A library exports one function, portkit_device(), which returns a table of the functions below. portkit loads it in
 * a device process and keeps the books: every address and range that comes here was given out by this driver and is
 * alive.
 *
 * Status      Every function that can fail returns a portkit_status. After any but PORTKIT_OK, last_error says in
 *             words what happened; the words reach the user. PORTKIT_HANG and PORTKIT_LOST end the device for good.
 * Ownership   What the caller passes is the caller's and is valid during the call only: copy what you keep. A context
 *             and a program are yours, from open to close and from load to unload. portkit frees and unloads all it
 *             can before it calls close.
 * Threads     At most one call at a time on one context, not always from the same thread. Contexts are independent.
 * Order       What is started runs in order, transfers included: read, write and copy act after all that was started.
 * Sizes       In bytes, may be zero, 64-bit. No function prints, exits, or throws.
 * Versions    A driver is refused unless version and size are what this header says. A later version of this header may
 *             change anything but these two fields and the exported function.
 */
#ifndef PORTKIT_DEVICE_H
#define PORTKIT_DEVICE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PORTKIT_DEVICE_VERSION 1

typedef enum portkit_status {
    PORTKIT_OK = 0,
    PORTKIT_ERROR = 1,           /* the device or its driver said no, and none of the others fits */
    PORTKIT_CANNOT_RUN_HERE = 2, /* this machine lacks something: no such device, a driver that is too old */
    PORTKIT_OUT_OF_MEMORY = 3,
    PORTKIT_BAD_PROGRAM = 4,     /* load: the binary is not for this device, or damaged */
    PORTKIT_HANG = 5,            /* no end within the time limit */
    PORTKIT_LOST = 6             /* the device went away */
} portkit_status;

typedef struct portkit_context portkit_context; /* one open device; yours to define */
typedef struct portkit_program portkit_program; /* one loaded kernel; yours to define */

/* What stands on top of every report: UTF-8, ended by a zero byte. No host names, no paths. */
typedef struct portkit_info {
    char device[256];
    char driver[256];
    char compiler[256]; /* may be empty */
} portkit_info;

typedef struct portkit_device_table {
    uint64_t version; /* PORTKIT_DEVICE_VERSION */
    uint64_t size;    /* sizeof(portkit_device_table) */

    /* Whether the device can be opened on this machine; must be quick, and take nothing. */
    portkit_status (*probe)(void);

    portkit_status (*open)(portkit_context **context);
    portkit_status (*info)(portkit_context *context, portkit_info *info);

    /* Memory of `size` bytes that no other live buffer shares, at a multiple of `align`, a power of two. An address is
     * a number: it need not mean anything to the host, but address + offset must be the byte at that offset. */
    portkit_status (*allocate)(portkit_context *context, uint64_t size, uint64_t align, uint64_t *address);
    portkit_status (*free)(portkit_context *context, uint64_t address);

    /* Complete on return. The ranges of copy do not overlap. */
    portkit_status (*write)(portkit_context *context, uint64_t address, const void *data, uint64_t size);
    portkit_status (*read)(portkit_context *context, uint64_t address, void *data, uint64_t size);
    portkit_status (*copy)(portkit_context *context, uint64_t target, uint64_t source, uint64_t size);

    /* Put a kernel, as the port's compiler made it, where it can run. */
    portkit_status (*load)(portkit_context *context, const void *binary, uint64_t size, portkit_program **program);
    portkit_status (*unload)(portkit_context *context, portkit_program *program);

    /* Start the work-groups [0, groups). `arguments` are words of 8 bytes, little-endian: buffer addresses, scalars and
     * grid extents, in the order of the kernel. Work-groups that run at once have `scratch` bytes each of their own. */
    portkit_status (*start)(portkit_context *context, portkit_program *program, const void *arguments,
                            uint64_t arguments_size, uint64_t groups, uint64_t scratch);

    /* Return when all that was started is done, with PORTKIT_HANG after `nanoseconds`. */
    portkit_status (*wait)(portkit_context *context, uint64_t nanoseconds);

    /* The words for the last status that was not PORTKIT_OK; valid until the next call on the context. Without a
     * context (NULL), those of the last probe or open. */
    const char *(*last_error)(portkit_context *context);

    /* Release the device. The context is not used again. */
    void (*close)(portkit_context *context);
} portkit_device_table;

/* The one exported function: a table that lives as long as the library. */
const portkit_device_table *portkit_device(void);

#ifdef __cplusplus
}
#endif

#endif
