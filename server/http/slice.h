/* The slice: how long a thread may have the processor before others that want it.
 *
 * The threads that answer clients work for microseconds, beside threads that compute without pause.
 * Who asks for short slices gets the processor soon after it wakes, and no more of it than others.
 * Used by each of these threads for itself, once. */
#ifndef PHID_SERVER_HTTP_SLICE_H
#define PHID_SERVER_HTTP_SLICE_H

/* Asks for short slices for the calling thread. Needs no rights; Linux before 6.12 has none to
 * give, and then nothing changes. */
void slice_shorten(void);

#endif
