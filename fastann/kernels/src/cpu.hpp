// What this CPU can do, and which of it is used.
#pragma once

#include <string>
#include <vector>

#include "dots.hpp"

namespace fastann {

struct Screening;
struct Table;

// The loops of one instruction set, and how centroids are screened on it by rounded products, if it has them.
struct Level {
    const char* name;
    const Table* table;
    const Screening* rounded;  // or null
    bool available;            // in this CPU, and permitted by the system
    Dots dots = nullptr;       // or null, where int8 is multiplied as int16
};

// Every level that this library was compiled with, best first; the last are scalar twins, for tests.
const std::vector<Level>& levels();

// The level in use. It is chosen when the library is loaded: the best one available, or a lower one that was asked for.
const Level& level();

// Use a level from now on, by its name; false if it is unknown or not available here.
bool use(const std::string& name);

// The loops of the level in use.
const Table& table();

}  // namespace fastann
