// What this CPU can do, and which of it is used.
#pragma once

#include <string>
#include <vector>

namespace fastann {

struct Table;

// The loops of one instruction set, and how centroids are screened on it, worst first.
enum class Screen { f32, int8_avx, int8, bf16, twin_int8, twin_bf16 };

struct Level {
    const char* name;
    const Table* table;
    Screen screen;
    bool available;  // compiled, in the CPU, and permitted by the system
};

// Every level that this library was compiled with, best first.
const std::vector<Level>& levels();

// The level in use. It is chosen when the library is loaded: the best one available, or a lower one that was asked for.
const Level& level();

// Use a level from now on, by its name; false if it is unknown or not available here.
bool use(const std::string& name);

// The loops of the level in use.
const Table& table();

}  // namespace fastann
