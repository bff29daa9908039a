#include "dataplane/http/message.h"

#include <algorithm>
#include <new>

namespace sluice::http {
namespace {

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; }

}  // namespace

bool equals_ignore_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

std::string_view FieldList::copy(std::string_view s) {
  const std::string_view c = arena_->copy(s);
  if (c.data() == nullptr) failed_ = true;
  return c;
}

std::string_view FieldList::copy_lower(std::string_view s) {
  const std::string_view c = copy(s);
  if (!s.empty() && c.data() != nullptr)
    for (char& ch : std::span(const_cast<char*>(c.data()), c.size())) ch = lower(ch);
  return c;
}

void FieldList::add_view(std::string_view name, std::string_view value) {
  joined_ = nullptr;
  if (count_ == room_) {
    const size_t room = room_ == 0 ? 16 : room_ * 2;
    auto* fields = static_cast<Field*>(arena_->alloc(room * sizeof(Field)));
    if (fields == nullptr) {
      failed_ = true;
      return;
    }
    std::copy_n(fields_, count_, fields);
    fields_ = fields;
    room_ = room;
  }
  fields_[count_++] = {name, value};
}

void FieldList::add(std::string_view name, std::string_view value) { add_view(copy_lower(name), copy(value)); }

void FieldList::set(std::string_view name, std::string_view value) {
  joined_ = nullptr;
  size_t kept = 0;
  bool placed = false;
  for (size_t i = 0; i < count_; i++) {
    if (equals_ignore_case(fields_[i].name, name)) {
      if (placed) continue;
      placed = true;
      fields_[i].value = copy(value);
    }
    fields_[kept++] = fields_[i];
  }
  count_ = kept;
  if (!placed) add(name, value);
}

void FieldList::append(std::string_view name, std::string_view value, std::string_view separator) {
  joined_ = nullptr;
  for (size_t i = count_; i-- > 0;) {
    if (!equals_ignore_case(fields_[i].name, name)) continue;
    const std::string_view old = fields_[i].value;
    auto* p = static_cast<char*>(arena_->alloc(old.size() + separator.size() + value.size()));
    if (p == nullptr) {
      failed_ = true;
      return;
    }
    char* end = std::ranges::copy(value, std::ranges::copy(separator, std::ranges::copy(old, p).out).out).out;
    fields_[i].value = {p, size_t(end - p)};
    return;
  }
  add(name, value);
}

bool FieldList::remove(std::string_view name) {
  const size_t before = count_;
  remove_if([&](const Field& f) { return equals_ignore_case(f.name, name); });
  return count_ != before;
}

std::optional<std::string_view> FieldList::joined(std::string_view name) const {
  const Field* one = find(name);
  if (one == nullptr) return std::nullopt;
  size_t total = 0, n = 0;
  for (const Field& f : all())
    if (f.name == name) total += f.value.size() + 1, n++;
  if (n == 1) return one->value;
  for (const Joined* j = joined_; j != nullptr; j = j->next)
    if (j->field.name == name) return j->field.value;
  auto* p = static_cast<char*>(arena_->alloc(total));
  if (p == nullptr) {
    failed_ = true;
    return one->value;
  }
  char* at = p;
  for (const Field& f : all()) {
    if (f.name != name) continue;
    if (&f != one) *at++ = ',';  // behind an empty value too
    at = std::ranges::copy(f.value, at).out;
  }
  const std::string_view value(p, size_t(at - p));
  if (void* room = arena_->alloc(sizeof(Joined)); room != nullptr) joined_ = new (room) Joined{{one->name, value}, joined_};
  return value;
}

bool FieldList::has_token(std::string_view name, std::string_view token) const {
  bool found = false;
  for (const Field& f : all())
    if (f.name == name) each_token(f.value, [&](std::string_view t) { found |= equals_ignore_case(t, token); });
  return found;
}

bool is_grpc(const FieldList& fields) {
  constexpr std::string_view kGrpc = "application/grpc";
  const std::string_view type = fields.joined("content-type").value_or("");
  return type.starts_with(kGrpc) && (type.size() == kGrpc.size() || type[kGrpc.size()] == '+');
}

std::optional<std::string_view> query_parameter(std::string_view path_and_query, std::string_view name) {
  std::string_view rest = query_of(path_and_query);
  while (!rest.empty()) {
    const size_t amp = rest.find('&');
    const std::string_view pair = rest.substr(0, amp);
    const size_t eq = pair.find('=');
    if (pair.substr(0, eq) == name) return eq == pair.npos ? std::string_view{} : pair.substr(eq + 1);
    if (amp == rest.npos) break;
    rest.remove_prefix(amp + 1);
  }
  return std::nullopt;
}

}  // namespace sluice::http
