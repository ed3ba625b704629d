// The pool under stress: many callers, nested runs, exceptions, workers that end, children.
#include "../src/pool.hpp"

#include <atomic>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <thread>

#ifndef _WIN32
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "check.hpp"

namespace {

template <class Body>
void each(int64_t pieces, const Body& body) {
    fastann::run(
        pieces, 1000, [](void* f, int64_t piece) { (*static_cast<const Body*>(f))(piece); }, const_cast<Body*>(&body));
}

// Every piece is run once.
void count_pieces(int64_t pieces) {
    std::vector<std::atomic<int>> seen(static_cast<size_t>(pieces));
    each(pieces, [&](int64_t piece) { seen[static_cast<size_t>(piece)]++; });
    for (const auto& times : seen) CHECK(times == 1);
}

void several_callers() {
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 8; caller++) {
        callers.emplace_back([caller] {
            fastann::set_threads(1 + caller % 4);
            for (int i = 0; i < 300; i++) count_pieces(1 + (i * 7 + caller) % 40);
        });
    }
    for (int i = 0; i < 50; i++) {
        fastann::end_idle_workers();
        std::this_thread::yield();
    }
    for (std::thread& caller : callers) caller.join();
}

// Whoever is about to fork does not wait for runs of other threads.
void idle_workers_end_beside_a_run() {
    for (int i = 0; i < 20; i++) {
        count_pieces(64);
        std::atomic<bool> let_go{false};
        std::atomic<int> held{0};
        std::thread caller([&] {
            fastann::set_threads(2);
            each(2, [&](int64_t) {
                held++;
                while (!let_go) std::this_thread::yield();
            });
        });
        while (held < 1) std::this_thread::yield();
        fastann::end_idle_workers();
        let_go = true;
        caller.join();
        CHECK(held == 2);
    }
}

void several_end_them_at_once() {
    std::vector<std::thread> enders;
    for (int i = 0; i < 4; i++) {
        enders.emplace_back([i] {
            for (int t = 0; t < 100; t++) {
                if (i < 2) count_pieces(8);
                fastann::end_idle_workers();
            }
        });
    }
    for (std::thread& one : enders) one.join();
}

void signals_go_to_the_program() {
#ifndef _WIN32
    const std::thread::id caller = std::this_thread::get_id();
    each(200, [&](int64_t) {
        sigset_t mask;
        pthread_sigmask(SIG_BLOCK, nullptr, &mask);
        const bool ours = std::this_thread::get_id() != caller;
        CHECK(sigismember(&mask, SIGINT) == (ours ? 1 : 0));
        CHECK(sigismember(&mask, SIGSEGV) == 0);  // faulthandler prints where
        std::this_thread::yield();
    });
#endif
}

void nested_runs_are_serial() {
    std::atomic<int64_t> total{0};
    each(20, [&](int64_t) {
        const std::thread::id mine = std::this_thread::get_id();
        each(10, [&](int64_t piece) {
            CHECK(std::this_thread::get_id() == mine);
            total += piece;
        });
    });
    CHECK(total == 20 * 45);
}

void exceptions_come_back() {
    for (int i = 0; i < 50; i++) {
        bool caught = false;
        try {
            each(30, [&](int64_t piece) {
                if (piece % 7 == 3) throw std::bad_alloc();
            });
        } catch (const std::bad_alloc&) {
            caught = true;
        }
        CHECK(caught);
        count_pieces(30);
    }
}

void a_question_ends_a_run() {
    fastann::set_check([] { return true; });
    bool stopped = false;
    try {
        each(1000, [](int64_t) { std::this_thread::sleep_for(std::chrono::milliseconds(5)); });
    } catch (const fastann::Interrupted&) {
        stopped = true;
    }
    fastann::set_check(nullptr);
    CHECK(stopped);
}

void children_have_a_pool() {
#ifndef _WIN32
    for (int i = 0; i < 10; i++) {
        count_pieces(50);
        std::atomic<bool> stop{false};
        std::thread busy([&] {
            while (!stop) count_pieces(20);
        });
        const pid_t child = fork();
        if (child == 0) {
            count_pieces(50);
            _exit(0);
        }
        int status = 1;
        waitpid(child, &status, 0);
        stop = true;
        busy.join();
        CHECK(status == 0);
    }
#endif
}

}  // namespace

void test_pool(bool fork) {
    const int before = fastann::set_threads(4);
    for (int64_t pieces : {0, 1, 2, 3, 100, 5000}) count_pieces(pieces);
    several_callers();
    idle_workers_end_beside_a_run();
    several_end_them_at_once();
    signals_go_to_the_program();
    nested_runs_are_serial();
    exceptions_come_back();
    a_question_ends_a_run();
    if (fork) children_have_a_pool();
    fastann::end_idle_workers();
    count_pieces(100);
    fastann::set_threads(before);
}
