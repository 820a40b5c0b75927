#include "base/build_id.h"

#include <elf.h>
#include <link.h>

#include <cstring>

namespace svdllm {
namespace {

constexpr size_t Aligned(size_t size) { return (size + 3) / 4 * 4; }

// The build ID among the notes of a segment; empty where there is none.
std::string Find(const char* notes, size_t size) {
  while (size >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes, sizeof(note));
    const char* const name = notes + sizeof(note);
    const char* const content = name + Aligned(note.n_namesz);
    const size_t whole = sizeof(note) + Aligned(note.n_namesz) + Aligned(note.n_descsz);
    if (whole > size) break;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(name, "GNU", 4) == 0) {
      static constexpr char kHex[] = "0123456789abcdef";
      std::string id;
      for (size_t i = 0; i < note.n_descsz; ++i) {
        const auto byte = static_cast<unsigned char>(content[i]);
        id.push_back(kHex[byte >> 4]);
        id.push_back(kHex[byte & 15]);
      }
      return id;
    }
    notes += whole;
    size -= whole;
  }
  return "";
}

// The program itself is the first that is visited, so it ends the walk.
int Visit(dl_phdr_info* info, size_t, void* id) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    if (header.p_type != PT_NOTE) continue;
    const auto* const notes = reinterpret_cast<const char*>(info->dlpi_addr + header.p_vaddr);
    const std::string found = Find(notes, header.p_memsz);
    if (!found.empty()) *static_cast<std::string*>(id) = found;
  }
  return 1;
}

}  // namespace

std::string BuildId() {
  std::string id = "unknown";
  dl_iterate_phdr(&Visit, &id);
  return id;
}

}  // namespace svdllm
