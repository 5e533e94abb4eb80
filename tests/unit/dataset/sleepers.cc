// For LeakSanitizer: a coroutine that sleeps when its reactor stops is never freed (Reactor::stop). A daemon
// ends then; a test makes many of them. These are the ones that sleep.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:cached::volume::RadosVolume::end_patience\n";
}
