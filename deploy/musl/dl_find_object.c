/* GCC 12's unwinder asks glibc for this; musl has none. -1 means "not found" (see _dl_find_object(3)),
 * and the unwinder falls back to dl_iterate_phdr. */
int _dl_find_object(void *address, void *result) { (void)address; (void)result; return -1; }
