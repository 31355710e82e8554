; What the thread pool needs of a processor that has no pause and no float mode that a library could change.

@PLAIN_FLOAT_MODE = internal constant i64 0

define internal void @pause() alwaysinline {
  ret void
}

define internal i64 @get_float_mode() {
  ret i64 0
}

define internal void @set_float_mode(i64 %mode) {
  ret void
}
