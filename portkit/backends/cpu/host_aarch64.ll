; What the thread pool needs of an AArch64 processor.

declare void @llvm.aarch64.isb(i32)
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)

@PLAIN_FLOAT_MODE = internal constant i64 0 ; FPCR 0: the value at reset

define internal void @pause() alwaysinline {
  call void @llvm.aarch64.isb(i32 15) ; waits longer than yield, which most cores ignore
  ret void
}

define internal i64 @get_float_mode() {
  %mode = call i64 @llvm.aarch64.get.fpcr()
  ret i64 %mode
}

define internal void @set_float_mode(i64 %mode) {
  call void @llvm.aarch64.set.fpcr(i64 %mode)
  ret void
}
