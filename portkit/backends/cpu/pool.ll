; The thread pool's native half. Kernels have the type void(ptr args, i64 group_begin, i64 group_end, ptr scratch).
;
; The gate counts up: odd = a job is open, even = closed, -1 = stop. A worker joins by adding itself to `active` and then
; reading the gate; the launcher closes the gate and then waits for `active` to be zero. Both are sequentially consistent,
; so a worker either sees the gate closed or is waited for, and a worker that wakes too late costs the launcher nothing.
; The same argument, with `sleepers` and `waiting`, covers both condition variables.

%job = type {         ; written only while the gate is closed and nobody is active
  ptr,                ; 0 kernel
  ptr,                ; 1 args
  i64,                ; 2 groups
  ptr,                ; 3 scratch          one block per thread
  i64,                ; 4 stride           bytes from one thread's block to the next
  i64,                ; 5 threads          the launcher is thread 0
  i64                 ; 6 spins            pauses before a thread blocks
}
%pool = type {
  %job, [72 x i8],
  i64, [120 x i8],    ; 2 gate             each contended word has 128 bytes to itself
  i64, [120 x i8],    ; 4 next             the first group not yet handed out
  i64, [120 x i8],    ; 6 active           workers inside the open job
  i64, i64, [112 x i8], ; 8 sleepers, 9 waiting
  [128 x i8],         ; 11 mutex
  [128 x i8],         ; 12 work            signalled when the gate opens
  [128 x i8]          ; 13 done            signalled when the last active worker leaves
}

declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i64 @llvm.umax.i64(i64, i64)

define void @open(ptr %pool) {
  %mutex = getelementptr %pool, ptr %pool, i64 0, i32 11
  %work = getelementptr %pool, ptr %pool, i64 0, i32 12
  %done = getelementptr %pool, ptr %pool, i64 0, i32 13
  call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  call i32 @pthread_cond_init(ptr %work, ptr null)
  call i32 @pthread_cond_init(ptr %done, ptr null)
  ret void
}

; Pause `count` times, to measure what one pause takes here.
define void @spin(i64 %count) {
start:
  br label %again
again:
  %i = phi i64 [ 0, %start ], [ %i.next, %again ]
  call void @pause()
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, %count
  br i1 %more, label %again, label %end
end:
  ret void
}

; Hand out groups until none is left: each claim takes 1/(2 threads) of what remains, so late chunks are small.
define internal void @work(ptr %pool, i64 %thread) {
start:
  %job = load %job, ptr %pool
  %kernel = extractvalue %job %job, 0
  %args = extractvalue %job %job, 1
  %groups = extractvalue %job %job, 2
  %blocks = extractvalue %job %job, 3
  %stride = extractvalue %job %job, 4
  %threads = extractvalue %job %job, 5
  %offset = mul i64 %stride, %thread
  %scratch = getelementptr i8, ptr %blocks, i64 %offset
  %shares = shl i64 %threads, 1
  %next = getelementptr %pool, ptr %pool, i64 0, i32 4
  br label %look
look:
  %first = load atomic i64, ptr %next monotonic, align 8
  br label %claim
claim:
  %begin = phi i64 [ %first, %look ], [ %seen, %take ]
  %left = sub i64 %groups, %begin
  %some = icmp sgt i64 %left, 0
  br i1 %some, label %take, label %end
take:
  %share = udiv i64 %left, %shares
  %chunk = call i64 @llvm.umax.i64(i64 %share, i64 1)
  %stop = add i64 %begin, %chunk
  %swap = cmpxchg weak ptr %next, i64 %begin, i64 %stop monotonic monotonic, align 8
  %seen = extractvalue { i64, i1 } %swap, 0
  %mine = extractvalue { i64, i1 } %swap, 1
  br i1 %mine, label %run, label %claim
run:
  call void %kernel(ptr %args, i64 %begin, i64 %stop, ptr %scratch)
  br label %look
end:
  ret void
}

; True when the gate is open for a job other than `last`, or says stop.
define internal i1 @ready(ptr %pool, i64 %last) alwaysinline {
  %gate.p = getelementptr %pool, ptr %pool, i64 0, i32 2
  %gate = load atomic i64, ptr %gate.p seq_cst, align 8
  %odd = trunc i64 %gate to i1
  %new = icmp ne i64 %gate, %last
  %ready = and i1 %odd, %new
  ret i1 %ready
}

define internal void @sleep(ptr %pool, i64 %last) noinline {
start:
  %mutex = getelementptr %pool, ptr %pool, i64 0, i32 11
  %work = getelementptr %pool, ptr %pool, i64 0, i32 12
  %sleepers = getelementptr %pool, ptr %pool, i64 0, i32 8
  call i32 @pthread_mutex_lock(ptr %mutex)
  atomicrmw add ptr %sleepers, i64 1 seq_cst, align 8
  br label %check
check:
  %ready = call i1 @ready(ptr %pool, i64 %last)
  br i1 %ready, label %awake, label %wait
wait:
  call i32 @pthread_cond_wait(ptr %work, ptr %mutex)
  br label %check
awake:
  atomicrmw sub ptr %sleepers, i64 1 seq_cst, align 8
  call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}

define internal void @wake(ptr %pool, ptr %condition) noinline {
  %mutex = getelementptr %pool, ptr %pool, i64 0, i32 11
  call i32 @pthread_mutex_lock(ptr %mutex)
  call i32 @pthread_cond_broadcast(ptr %condition)
  call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}

; A worker's whole life: returns when the gate says stop.
define void @worker(ptr %pool, i64 %thread) {
start:
  call void @plain_float_mode()
  %gate.p = getelementptr %pool, ptr %pool, i64 0, i32 2
  %active = getelementptr %pool, ptr %pool, i64 0, i32 6
  %waiting.p = getelementptr %pool, ptr %pool, i64 0, i32 9
  %done = getelementptr %pool, ptr %pool, i64 0, i32 13
  %spins.p = getelementptr %job, ptr %pool, i64 0, i32 6
  %spins = load i64, ptr %spins.p
  br label %idle
idle:
  %last = phi i64 [ 0, %start ], [ %gate, %leave ], [ %gate, %signal ]
  br label %look
look:
  %round = phi i64 [ 0, %idle ], [ %round.next, %rest ]
  %ready = call i1 @ready(ptr %pool, i64 %last)
  br i1 %ready, label %join, label %tired
tired:
  %round.next = add i64 %round, 1
  %patient = icmp ult i64 %round, %spins
  br i1 %patient, label %rest, label %block
rest:
  call void @pause()
  br label %look
block:
  call void @sleep(ptr %pool, i64 %last)
  br label %join
join:
  atomicrmw add ptr %active, i64 1 seq_cst, align 8
  %gate = load atomic i64, ptr %gate.p seq_cst, align 8
  %stop = icmp eq i64 %gate, -1
  br i1 %stop, label %end, label %enter
enter:
  %open = trunc i64 %gate to i1
  br i1 %open, label %help, label %leave
help:
  call void @work(ptr %pool, i64 %thread)
  br label %leave
leave:
  atomicrmw sub ptr %active, i64 1 seq_cst, align 8
  %waiting = load atomic i64, ptr %waiting.p seq_cst, align 8
  %wanted = icmp ne i64 %waiting, 0
  br i1 %wanted, label %signal, label %idle
signal:
  call void @wake(ptr %pool, ptr %done)
  br label %idle
end:
  ret void
}

; Run a list of kernels, each a %call, one after the other. One list at a time.
%call = type { ptr, ptr, i64 } ; kernel, args, groups

define void @launch(ptr %pool, ptr %calls, i64 %count) {
start:
  %mode = call i64 @get_float_mode()
  call void @plain_float_mode()
  br label %look
look:
  %place = phi i64 [ 0, %start ], [ %place.next, %next ]
  %more = icmp slt i64 %place, %count
  br i1 %more, label %next, label %end
next:
  %call.p = getelementptr %call, ptr %calls, i64 %place
  %call = load %call, ptr %call.p
  %kernel = extractvalue %call %call, 0
  %args = extractvalue %call %call, 1
  %groups = extractvalue %call %call, 2
  call void @run(ptr %pool, ptr %kernel, ptr %args, i64 %groups)
  %place.next = add i64 %place, 1
  br label %look
end:
  call void @set_float_mode(i64 %mode)
  ret void
}

; Run groups [0, groups) of `kernel` on all threads and return when each has been executed.
define internal void @run(ptr %pool, ptr %kernel, ptr %args, i64 %groups) {
start:
  %job = load %job, ptr %pool
  %scratch = extractvalue %job %job, 3
  %threads = extractvalue %job %job, 5
  %spins = extractvalue %job %job, 6
  %alone = icmp eq i64 %threads, 1
  %small = icmp sle i64 %groups, 1
  %direct = or i1 %alone, %small
  br i1 %direct, label %serial, label %publish
serial:
  %some = icmp sgt i64 %groups, 0
  br i1 %some, label %run, label %end
run:
  call void %kernel(ptr %args, i64 0, i64 %groups, ptr %scratch)
  br label %end
publish:
  %with.kernel = insertvalue %job %job, ptr %kernel, 0
  %with.args = insertvalue %job %with.kernel, ptr %args, 1
  %published = insertvalue %job %with.args, i64 %groups, 2
  store %job %published, ptr %pool
  %next = getelementptr %pool, ptr %pool, i64 0, i32 4
  store atomic i64 0, ptr %next monotonic, align 8
  %gate.p = getelementptr %pool, ptr %pool, i64 0, i32 2
  %gate = load i64, ptr %gate.p
  %open = add i64 %gate, 1
  store atomic i64 %open, ptr %gate.p seq_cst, align 8
  %sleepers.p = getelementptr %pool, ptr %pool, i64 0, i32 8
  %sleepers = load atomic i64, ptr %sleepers.p seq_cst, align 8
  %asleep = icmp ne i64 %sleepers, 0
  br i1 %asleep, label %rouse, label %take_part
rouse:
  %work = getelementptr %pool, ptr %pool, i64 0, i32 12
  call void @wake(ptr %pool, ptr %work)
  br label %take_part
take_part:
  call void @work(ptr %pool, i64 0)
  %closed = add i64 %gate, 2
  store atomic i64 %closed, ptr %gate.p seq_cst, align 8
  %active.p = getelementptr %pool, ptr %pool, i64 0, i32 6
  br label %look
look:
  %round = phi i64 [ 0, %take_part ], [ %round.next, %rest ]
  %active = load atomic i64, ptr %active.p seq_cst, align 8
  %busy = icmp ne i64 %active, 0
  br i1 %busy, label %tired, label %end
tired:
  %round.next = add i64 %round, 1
  %patient = icmp ult i64 %round, %spins
  br i1 %patient, label %rest, label %block
rest:
  call void @pause()
  br label %look
block:
  call void @await(ptr %pool)
  br label %end
end:
  ret void
}

; Block until no worker is active.
define internal void @await(ptr %pool) noinline {
start:
  %mutex = getelementptr %pool, ptr %pool, i64 0, i32 11
  %done = getelementptr %pool, ptr %pool, i64 0, i32 13
  %active.p = getelementptr %pool, ptr %pool, i64 0, i32 6
  %waiting = getelementptr %pool, ptr %pool, i64 0, i32 9
  call i32 @pthread_mutex_lock(ptr %mutex)
  store atomic i64 1, ptr %waiting seq_cst, align 8
  br label %check
check:
  %active = load atomic i64, ptr %active.p seq_cst, align 8
  %busy = icmp ne i64 %active, 0
  br i1 %busy, label %wait, label %finished
wait:
  call i32 @pthread_cond_wait(ptr %done, ptr %mutex)
  br label %check
finished:
  store atomic i64 0, ptr %waiting seq_cst, align 8
  call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}

; Make every worker return.
define void @stop(ptr %pool) {
  %gate = getelementptr %pool, ptr %pool, i64 0, i32 2
  %work = getelementptr %pool, ptr %pool, i64 0, i32 12
  store atomic i64 -1, ptr %gate seq_cst, align 8
  call void @wake(ptr %pool, ptr %work)
  ret void
}

; Round to nearest even, keep subnormals, trap nothing, whatever mode some library left behind.
define internal void @plain_float_mode() {
  %plain = load i64, ptr @PLAIN_FLOAT_MODE
  call void @set_float_mode(i64 %plain)
  ret void
}
