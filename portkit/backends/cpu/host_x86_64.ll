; What the thread pool needs of an x86-64 processor.

declare void @llvm.x86.sse2.pause()
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)

@PLAIN_FLOAT_MODE = internal constant i64 8064 ; MXCSR 0x1f80: the value at reset

define internal void @pause() alwaysinline {
  call void @llvm.x86.sse2.pause()
  ret void
}

define internal i64 @get_float_mode() {
  %slot = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %slot)
  %mode = load i32, ptr %slot
  %wide = zext i32 %mode to i64
  ret i64 %wide
}

define internal void @set_float_mode(i64 %mode) {
  %slot = alloca i32
  %narrow = trunc i64 %mode to i32
  store i32 %narrow, ptr %slot
  call void @llvm.x86.sse.ldmxcsr(ptr %slot)
  ret void
}
