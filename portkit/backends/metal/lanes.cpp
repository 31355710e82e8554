// Runs the threads of threadgroups on one host thread: each is a fiber with a stack of its own, and a barrier is where it
// hands over. Between two barriers the threads run one after the other, forwards and backwards in turn, so that a result
// which depends on their order, as one that needs a missing barrier does, comes out wrong.
//
// A fiber starts by swapcontext and goes on by longjmp: swapcontext alone asks the kernel for the signal mask each time.

#if defined(__APPLE__)
#define _XOPEN_SOURCE 700  // without it there are no contexts
#define _DARWIN_C_SOURCE
#endif
#include <csetjmp>
#include <cstdint>
#include <cstring>
#include <sys/mman.h>
#include <ucontext.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace {

constexpr std::size_t STACK = 512 << 10;  // address space, of which a thread touches little
constexpr int GARBAGE = 0xAB;

using Thread = void (*)(const std::uint64_t* words, unsigned group, unsigned lane, unsigned char* shared);

struct Launch {
    Thread thread;
    const std::uint64_t* words;
    unsigned lanes;
    std::size_t shared_bytes;
};

struct Fiber {
    std::jmp_buf place;
    ucontext_t start;
    bool started, done;
};

struct Group {
    const Launch* launch;
    unsigned number, lane;
    unsigned char* shared;
    std::jmp_buf scheduler;
    ucontext_t origin;
    Fiber* fibers;
    char* stacks;
};

thread_local Group group;

// Apple GPUs flush subnormal numbers of f32. So does the model with operands, where the processor has a mode for it; with
// results it does not, as it would with those too that are rounded to the smallest normal number.
struct Flushing {
#if defined(__SSE__)
    unsigned before = _mm_getcsr();
    Flushing() { _mm_setcsr(before | 0x0040); }
    ~Flushing() { _mm_setcsr(before); }
#endif
};

void enter() {
    const unsigned lane = group.lane;
    group.launch->thread(group.launch->words, group.number, lane, group.shared);
    group.fibers[lane].done = true;
    _longjmp(group.scheduler, 1);
}

void resume(unsigned lane) {
    Fiber& fiber = group.fibers[lane];
    group.lane = lane;
    if (_setjmp(group.scheduler)) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = group.stacks + lane * STACK;
    fiber.start.uc_stack.ss_size = STACK;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, enter, 0);
    setcontext(&fiber.start);
}

// Address space for one launch; the system gives memory to those parts of it that threads touch.
struct Pages {
    std::size_t size;
    char* start;
    explicit Pages(std::size_t bytes) : size(bytes + 1) {
        void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        start = memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
    }
    ~Pages() { if (start) munmap(start, size); }
};

// Returns whether every thread passed the same barriers.
bool run_meeting(const Launch& launch) {
    for (unsigned lane = 0; lane < launch.lanes; lane++) group.fibers[lane].started = group.fibers[lane].done = false;
    for (unsigned phase = 0;; phase++) {
        unsigned done = 0;
        for (unsigned i = 0; i < launch.lanes; i++) {
            const unsigned lane = phase % 2 ? launch.lanes - 1 - i : i;
            resume(lane);
            done += group.fibers[lane].done;
        }
        if (done) return done == launch.lanes;
    }
}

void run_apart(const Launch& launch) {
    for (unsigned lane = 0; lane < launch.lanes; lane++) launch.thread(launch.words, group.number, lane, group.shared);
}

}  // namespace

extern "C" void meet() {
    if (!_setjmp(group.fibers[group.lane].place)) _longjmp(group.scheduler, 1);
}

// Runs threadgroups [begin, end); returns 0, 1 where threads of one did not meet at the same barriers, 2 without memory.
extern "C" int run(Thread thread, const std::uint64_t* words, unsigned lanes, std::size_t shared_bytes, int meets,
                   unsigned begin, unsigned end) {
    const Launch launch{thread, words, lanes, shared_bytes};
    const Pages shared(shared_bytes), fibers(meets ? lanes * sizeof(Fiber) : 0), stacks(meets ? lanes * STACK : 0);
    if (!shared.start || !fibers.start || !stacks.start) return 2;
    group.launch = &launch;
    group.shared = reinterpret_cast<unsigned char*>(shared.start);
    group.fibers = reinterpret_cast<Fiber*>(fibers.start);
    group.stacks = stacks.start;
    const Flushing flushing;
    bool met = true;
    for (unsigned number = begin; met && number < end; number++) {
        group.number = number;
        std::memset(shared.start, GARBAGE, shared_bytes);
        if (meets) met = run_meeting(launch);
        else run_apart(launch);
    }
    return met ? 0 : 1;
}
