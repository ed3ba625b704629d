// Threads for loops that are cut into pieces.
//
// A run hands out its pieces one by one, to the calling thread and to workers, until none is left. The caller then
// waits only for pieces that were already taken, so that a worker which the system does not run costs nothing: a busy
// machine delays a piece, never a barrier. Pieces must not depend on each other, nor on which thread runs them.
#pragma once

#include <cstdint>
#include <exception>

namespace fastann {

// Thrown by `run` in the calling thread when `set_check`'s function asked to stop.
struct Interrupted : std::exception {
    const char* what() const noexcept override;
};

// Most threads that runs of the calling thread use, itself included.
int threads();

// Set that; 0 means as many as there are cores. Returns what was set before.
int set_threads(int count);

// Run body(context, piece) for every piece. A piece that throws ends the run, and the exception comes out here.
// At most `most` threads run it, as waking one can take longer than the work it would do.
void run(int64_t pieces, int64_t most, void (*body)(void* context, int64_t piece), void* context);

// Have the calling thread of a run ask `check` twenty times a second whether to stop.
void set_check(bool (*check)());

// End the workers that have nothing to do; they are started anew when they are needed. To be called before a fork.
void end_idle_workers();

}  // namespace fastann
