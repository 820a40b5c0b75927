// Figures for people, wherever they are shown: in reports, on the command line and in messages. The
// text does not depend on the locale.
#pragma once

#include <cstdint>
#include <string>

namespace svdllm {

std::string Number(double value, int digits = 4);  // "17.32"; "–" where it is not finite
std::string Rate(double per_second);  // "1234", "56.7", "0.123"; "–" where it is not finite
// The rates of several rounds.
struct RateSpread {
  double median = 0, least = 0, largest = 0;
};
std::string Rate(const RateSpread& rate);  // "247 (55.6 to 2006)"
// How many times faster, as far as the rounds say: "× 1.18"; "alike: × 0.97 to × 1.05" where the
// two overlap; "unsteady: × 0.02 to × 182" where rounds of one model differ by more than half;
// "× 1.18, of one round" where there was no second. "–" where a rate is not known.
std::string SpeedRatio(const RateSpread& before, const RateSpread& after, int64_t rounds);
std::string Change(double before, double after);  // "-16.0 %"; "–" where before is 0

std::string Count(int64_t count);    // rounded: "134.5 M"
std::string Grouped(int64_t count);  // to the last digit, to be compared: "134,515,008"

std::string Bytes(int64_t bytes);  // powers of 1000, as disks and files are sold: "269.0 MB"
std::string GiB(int64_t bytes);    // powers of 1024, as limits of memory are given: "16.00 GiB"

std::string Seconds(double seconds);  // what something took: "8.50 s", "3 min 07 s", "2 h 05 min"
// Returns one word, spelled as a flag takes it and no more exact than a forecast is: "0.8s", "12s",
// "2m13s", "3h05m", "2d04h".
std::string Duration(double seconds);
// Now, for records: "2026-01-31T12:00:00Z".
std::string UtcNow();

}  // namespace svdllm
