#include "pool.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#ifdef _WIN32
#include <process.h>
#else
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif

namespace fastann {

const char* Interrupted::what() const noexcept { return "interrupted"; }

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto SPIN = std::chrono::microseconds(15);  // a worker that was just busy looks for more work so long
constexpr auto ASK = std::chrono::milliseconds(50);   // how often the caller asks whether to stop
constexpr size_t STACK = 1 << 20;                     // bytes of a worker's stack: musl gives 128 KiB, glibc 8 MiB

thread_local int limit = 0;        // most threads of this thread's runs; 0: all cores
thread_local bool inside = false;  // whether this thread is running a piece: runs inside of it are serial
std::atomic<bool (*)()> check{nullptr};

// One run. `next` is the only thing that threads share while they work.
struct Job {
    Job(void (*run)(void*, int64_t), void* with, int64_t count) : body(run), context(with), pieces(count) {}

    void (*body)(void*, int64_t);
    void* context;
    int64_t pieces;
    std::atomic<int64_t> next{0};
    int room = 0;                  // workers that may still join
    std::atomic<int> helping{0};   // workers that joined and have not left; changed with the pool's mutex held
    std::condition_variable left;  // told when the last of them leaves
    std::exception_ptr error;
};

#ifndef _WIN32
struct Worker {
    pthread_t thread;
    bool ended;  // and waits to be joined
};
#endif

struct Pool {
    std::mutex mutex;                    // guards all that follows, and the plain fields of jobs
    std::condition_variable wake, gone;  // told of work, or that workers are to end; told when all of those have
    std::vector<Job*> jobs;              // that have room
    std::atomic<int> news{0};  // workers that spin look at it: jobs that have room, and workers that are to end
    int alive = 0, busy = 0;   // workers; those in a job
    int leaving = 0;           // workers that are to end: as many of those that are not busy
#ifndef _WIN32
    std::vector<Worker> workers;
#endif

    void tell() { news.store(static_cast<int>(jobs.size()) + leaving); }
};

// Never destroyed: joining threads while a process exits deadlocks on some systems.
Pool* pool = new Pool;

int cores() {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
#endif
    const unsigned count = std::thread::hardware_concurrency();
    return count > 0 ? static_cast<int>(count) : 1;
}

// Take pieces until there are none; what the first of them to throw threw is kept. The caller of a run has it `ask`
// every now and then whether to stop.
void work(Job& job, std::mutex& mutex, bool (*ask)()) {
    auto next_time = ask != nullptr ? Clock::now() + ASK : Clock::time_point();
    inside = true;
    try {
        for (;;) {
            const int64_t piece = job.next.fetch_add(1, std::memory_order_relaxed);
            if (piece >= job.pieces) break;
            job.body(job.context, piece);
            if (ask != nullptr && Clock::now() >= next_time) {
                if (ask()) throw Interrupted();
                next_time = Clock::now() + ASK;
            }
        }
    } catch (...) {
        job.next.store(job.pieces);
        const std::lock_guard<std::mutex> lock(mutex);
        if (!job.error) job.error = std::current_exception();
    }
    inside = false;
}

// Spin until `ready()`, for a while.
template <class Ready>
void spin(const Ready& ready) {
    const auto end = Clock::now() + SPIN;
    while (!ready() && Clock::now() < end) {
    }
}

void remove(Pool& p, Job* job) {
    for (size_t i = 0; i < p.jobs.size(); i++) {
        if (p.jobs[i] == job) {
            p.jobs.erase(p.jobs.begin() + static_cast<std::ptrdiff_t>(i));
            p.tell();
            return;
        }
    }
}

// What a worker does, until it is to end.
void serve(Pool& p) {
    std::unique_lock<std::mutex> lock(p.mutex);
    for (;;) {
        if (p.jobs.empty() && p.leaving == 0) {
            lock.unlock();
            spin([&] { return p.news.load(std::memory_order_relaxed) != 0; });
            lock.lock();
        }
        p.wake.wait(lock, [&] { return !p.jobs.empty() || p.leaving > 0; });
        if (p.leaving > 0) break;  // rather than help: somebody waits for it
        Job* job = p.jobs.front();
        job->helping++;
        p.busy++;
        if (--job->room == 0 || job->next.load() >= job->pieces) remove(p, job);
        lock.unlock();
        work(*job, p.mutex, nullptr);
        lock.lock();
        p.busy--;
        if (--job->helping == 0) job->left.notify_all();
    }
    p.alive--;
    p.leaving--;
    p.tell();
#ifndef _WIN32
    for (Worker& one : p.workers) {
        if (pthread_equal(one.thread, pthread_self())) one.ended = true;
    }
#endif
    if (p.leaving == 0) p.gone.notify_all();
}

#ifndef _WIN32
void* serve_thread(void* p) {
    serve(*static_cast<Pool*>(p));
    return nullptr;
}
#endif

// Have at least `count` workers, or as many as the system lets us start. Called with the mutex held.
void start(Pool& p, int count) {
    count += p.leaving;
    if (p.alive >= count) return;
#ifdef _WIN32
    try {
        for (; p.alive < count; p.alive++) std::thread(serve, std::ref(p)).detach();
    } catch (const std::system_error&) {
    }
#else
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setstacksize(&attributes, STACK);
    sigset_t all, before;  // signals are for the program's own threads, but for those that tell of a fault in this one
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        for (; p.alive < count; p.alive++) {
            p.workers.push_back({pthread_t(), false});
            if (pthread_create(&p.workers.back().thread, &attributes, serve_thread, &p) != 0) {
                p.workers.pop_back();
                break;
            }
        }
    } catch (const std::bad_alloc&) {
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
#endif
}

#ifndef _WIN32
// A forked child has none of the workers: it gets an empty pool, and the parent's, whose locks may be held, is left.
const int registered = pthread_atfork(nullptr, nullptr, [] {
    pool = new Pool;
    inside = false;
});
#endif

}  // namespace

int threads() { return limit > 0 ? limit : cores(); }

int set_threads(int count) {
    const int before = limit;
    limit = count;
    return before;
}

void set_check(bool (*function)()) { check.store(function); }

void run(int64_t pieces, int64_t most, void (*body)(void*, int64_t), void* context) {
    if (pieces <= 0) return;
    if (inside) {
        for (int64_t piece = 0; piece < pieces; piece++) body(context, piece);
        return;
    }
    Pool& p = *pool;
    Job job(body, context, pieces);
    const int64_t wanted = std::min<int64_t>(most, threads());
    const int helpers = static_cast<int>(std::min(wanted, pieces) - 1);
    if (helpers > 0) {
        job.room = helpers;
        {
            const std::lock_guard<std::mutex> lock(p.mutex);
            start(p, helpers);
            p.jobs.push_back(&job);
            p.tell();
        }
        if (helpers == 1) {
            p.wake.notify_one();
        } else {
            p.wake.notify_all();
        }
    }
    work(job, p.mutex, check.load());
    if (helpers > 0) {
        std::unique_lock<std::mutex> lock(p.mutex);
        remove(p, &job);
        if (job.helping.load() > 0) {
            lock.unlock();
            spin([&] { return job.helping.load(std::memory_order_relaxed) == 0; });
            lock.lock();
        }
        job.left.wait(lock, [&] { return job.helping.load() == 0; });
    }
    if (job.error) std::rethrow_exception(job.error);
}

void end_idle_workers() {
#ifndef _WIN32
    Pool& p = *pool;
    std::unique_lock<std::mutex> lock(p.mutex);
    p.leaving = p.alive - p.busy;
    p.tell();
    p.wake.notify_all();
    p.gone.wait(lock, [&] { return p.leaving == 0; });
    for (size_t i = 0; i < p.workers.size();) {
        if (!p.workers[i].ended) {
            i++;
            continue;
        }
        const pthread_t thread = p.workers[i].thread;
        p.workers[i] = p.workers.back();
        p.workers.pop_back();
        lock.unlock();
        pthread_join(thread, nullptr);
        lock.lock();
        i = 0;
    }
#endif
}

}  // namespace fastann
