// The part of the Metal Shading Language that printed kernels use, as C++ for the host: the model of the device compiles
// the same text that Metal gets, after this header. Address spaces mean nothing here, attributes in [[ ]] are ignored.
#pragma once

#define kernel
#define device
#define constant const
#define threadgroup

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;

// Every operation on halves is done in float and rounded once, which gives what half arithmetic gives.
struct half {
    _Float16 value;
    half() = default;
    // Through memory: without instructions for _Float16, gcc keeps the float where it is converted back.
    half(float x) : value(x) { __asm__("" : "+m"(value)); }
    operator float() const { return value; }
};
static_assert(sizeof(ulong) == 8, "Metal's ulong has 64 bits");

namespace metal {

template <class To, class From>
inline To as_type(From x) {
    static_assert(sizeof(To) == sizeof(From), "as_type keeps the size");
    return __builtin_bit_cast(To, x);
}

inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline half fma(half a, half b, half c) {
    // The product is exact in double; so is the sum, but where c is so much larger that it is the result.
    half result;
    result.value = double(float(a)) * double(float(b)) + double(float(c));
    return result;
}
inline float fabs(float x) { return __builtin_fabsf(x); }
inline float trunc(float x) { return __builtin_truncf(x); }

namespace precise {
inline float sqrt(float x) { return __builtin_sqrtf(x); }
}  // namespace precise

// --- synchronisation

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(int(a) | int(b)); }
enum memory_order { memory_order_relaxed = __ATOMIC_RELAXED, memory_order_seq_cst = __ATOMIC_SEQ_CST };
enum thread_scope { thread_scope_threadgroup, thread_scope_device };

extern "C" void (*portkit_meet)();
inline void threadgroup_barrier(mem_flags) { portkit_meet(); }
inline void atomic_thread_fence(mem_flags, memory_order order, thread_scope) { __atomic_thread_fence(order); }

// --- atomics

template <class T>
struct atomic {
    T value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;

template <class T>
inline void atomic_fetch_add_explicit(atomic<T>* at, T x, memory_order) { __atomic_fetch_add(&at->value, x, __ATOMIC_RELAXED); }

template <class T>
inline bool atomic_compare_exchange_weak_explicit(atomic<T>* at, T* expected, T x, memory_order, memory_order) {
    return __atomic_compare_exchange_n(&at->value, expected, x, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

template <class T>
inline void atomic_fetch_max_explicit(atomic<T>* at, T x, memory_order order) {
    T old = __atomic_load_n(&at->value, __ATOMIC_RELAXED);
    while (old < x && !atomic_compare_exchange_weak_explicit(at, &old, x, order, order)) {}
}

template <class T>
inline void atomic_fetch_min_explicit(atomic<T>* at, T x, memory_order order) {
    T old = __atomic_load_n(&at->value, __ATOMIC_RELAXED);
    while (x < old && !atomic_compare_exchange_weak_explicit(at, &old, x, order, order)) {}
}

}  // namespace metal

// An argument as the host packs it: a buffer's address.
struct portkit_address {
    ulong word;
    template <class T>
    operator T*() const { return reinterpret_cast<T*>(word); }
};
