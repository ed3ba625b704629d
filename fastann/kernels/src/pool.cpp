#include "pool.hpp"

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
constexpr auto ASK = std::chrono::milliseconds(100);  // how often the caller asks whether to stop
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
    int room = 0;     // workers that may still join
    int helping = 0;  // workers that joined and have not left
    std::exception_ptr error;
    std::condition_variable left;  // told when the last worker leaves
};

struct Pool {
    std::mutex mutex;  // guards all that follows, and the plain fields of jobs
    std::condition_variable wake;
    std::vector<Job*> jobs;       // that still have room
    std::atomic<int> waiting{0};  // how many those are: workers that spin look at it
    int idle = 0;
    int leave = 0;  // idle workers that are to end
#ifdef _WIN32
    int started = 0;
#else
    std::vector<pthread_t> running, ended;  // ended ones wait to be joined
#endif
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

// Take pieces until there are none; what the first of them to throw threw is kept.
void work_on(Job& job, std::mutex& mutex) {
    inside = true;
    try {
        for (;;) {
            const int64_t piece = job.next.fetch_add(1, std::memory_order_relaxed);
            if (piece >= job.pieces) break;
            job.body(job.context, piece);
        }
    } catch (...) {
        job.next.store(job.pieces);
        const std::lock_guard<std::mutex> lock(mutex);
        if (!job.error) job.error = std::current_exception();
    }
    inside = false;
}

void remove(Pool& p, Job* job) {
    for (size_t i = 0; i < p.jobs.size(); i++) {
        if (p.jobs[i] == job) {
            p.jobs.erase(p.jobs.begin() + static_cast<std::ptrdiff_t>(i));
            p.waiting.store(static_cast<int>(p.jobs.size()));
            return;
        }
    }
}

void serve(Pool& p) {
    std::unique_lock<std::mutex> lock(p.mutex);
    for (;;) {
        if (p.jobs.empty() && p.leave == 0) {
            lock.unlock();
            const auto end = Clock::now() + SPIN;
            while (p.waiting.load(std::memory_order_relaxed) == 0 && Clock::now() < end) {
            }
            lock.lock();
        }
        p.idle++;
        p.wake.wait(lock, [&] { return !p.jobs.empty() || p.leave > 0; });
        p.idle--;
        if (p.jobs.empty()) {
            p.leave--;
            return;
        }
        Job* job = p.jobs.front();
        job->helping++;
        if (--job->room == 0 || job->next.load() >= job->pieces) remove(p, job);
        lock.unlock();
        work_on(*job, p.mutex);
        lock.lock();
        if (--job->helping == 0) job->left.notify_all();
    }
}

#ifndef _WIN32
void* serve_thread(void* p) {
    serve(*static_cast<Pool*>(p));
    const std::lock_guard<std::mutex> lock(static_cast<Pool*>(p)->mutex);
    std::vector<pthread_t>& running = static_cast<Pool*>(p)->running;
    for (size_t i = 0; i < running.size(); i++) {
        if (pthread_equal(running[i], pthread_self())) {
            static_cast<Pool*>(p)->ended.push_back(running[i]);
            running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
            break;
        }
    }
    return nullptr;
}
#endif

// Have at least `count` workers, or as many as the system lets us start. Called with the mutex held.
void start(Pool& p, int count) {
#ifdef _WIN32
    while (p.started < count) {
        try {
            std::thread(serve, std::ref(p)).detach();
        } catch (const std::system_error&) {
            return;
        }
        p.started++;
    }
#else
    if (static_cast<int>(p.running.size()) >= count) return;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setstacksize(&attributes, STACK);
    sigset_t all, before;  // signals are for the program's own threads
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (static_cast<int>(p.running.size()) < count) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, serve_thread, &p) != 0) break;
        p.running.push_back(thread);
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

// The caller's share of a run: pieces, and every now and then the question whether to stop.
void work_and_ask(Job& job, std::mutex& mutex) {
    const auto ask = check.load();
    auto next_time = Clock::now() + ASK;
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

}  // namespace

int threads() { return limit > 0 ? limit : cores(); }

int set_threads(int count) {
    const int before = limit;
    limit = count;
    return before;
}

void set_check(bool (*function)()) { check.store(function); }

void run(int64_t pieces, bool alone, void (*body)(void*, int64_t), void* context) {
    if (pieces <= 0) return;
    if (inside) {
        for (int64_t piece = 0; piece < pieces; piece++) body(context, piece);
        return;
    }
    Pool& p = *pool;
    Job job(body, context, pieces);
    const int64_t wanted = alone ? 1 : threads();
    const int workers = static_cast<int>((wanted < pieces ? wanted : pieces) - 1);
    if (workers > 0) {
        job.room = workers;
        {
            const std::lock_guard<std::mutex> lock(p.mutex);
            start(p, workers);
            p.jobs.push_back(&job);
            p.waiting.store(static_cast<int>(p.jobs.size()));
        }
        if (workers == 1) {
            p.wake.notify_one();
        } else {
            p.wake.notify_all();
        }
    }
    work_and_ask(job, p.mutex);
    if (workers > 0) {
        std::unique_lock<std::mutex> lock(p.mutex);
        remove(p, &job);
        job.left.wait(lock, [&] { return job.helping == 0; });
    }
    if (job.error) std::rethrow_exception(job.error);
}

void end_idle_workers() {
#ifndef _WIN32
    Pool& p = *pool;
    std::vector<pthread_t> ended;
    {
        std::unique_lock<std::mutex> lock(p.mutex);
        const size_t stay = p.running.size() - static_cast<size_t>(p.idle);
        p.leave = p.idle;
        p.wake.notify_all();
        while (p.running.size() > stay && p.leave > 0) {
            lock.unlock();
            std::this_thread::yield();
            lock.lock();
        }
        ended.swap(p.ended);
    }
    for (pthread_t thread : ended) pthread_join(thread, nullptr);
#endif
}

}  // namespace fastann
