#include "ctrl/compile/verdicts.h"

#include <google/protobuf/any.pb.h>

#include <set>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sluice::compile {
namespace {

namespace pb = google::protobuf;

// One row per message: honoured fields, then "|" and inert ones. "*" alone: the whole message is inert, whatever it holds. "=": honoured
// whole (leaf types, checked where they are translated).
struct Row {
  std::string_view message, fields;
};
constexpr Row kRows[] = {
#include "ctrl/compile/verdicts.inc"
};

struct Table {
  struct Fields {
    std::set<std::string, std::less<>> honoured, inert;
    bool all_inert = false, all_honoured = false;
  };
  std::unordered_map<std::string, Fields> messages;
  Table() {
    for (const Row& row : kRows) {
      Fields& f = messages[std::string(row.message)];
      bool inert = false;
      for (size_t i = 0; i < row.fields.size();) {
        const size_t end = std::min(row.fields.find(' ', i), row.fields.size());
        const std::string_view word = row.fields.substr(i, end - i);
        if (word == "*") f.all_inert = true;
        else if (word == "=") f.all_honoured = true;
        else if (word == "|") inert = true;
        else if (!word.empty()) (inert ? f.inert : f.honoured).emplace(word);
        i = end + 1;
      }
    }
  }
};
const Table& table() {
  static const Table t;
  return t;
}

class Walk {
 public:
  Verdicts verdicts;
  std::string reason;

  bool message(const pb::Message& m, const std::string& path) {
    const std::string name = m.GetDescriptor()->full_name();
    if (name == "google.protobuf.Any") return any(static_cast<const pb::Any&>(m), path);
    const auto it = table().messages.find(name);
    if (it == table().messages.end()) {
      // Scalars in wrappers, durations and the like carry no verdict of their own.
      if (name.starts_with("google.protobuf.")) return true;
      return refuse(path, name);
    }
    const Table::Fields& known = it->second;
    if (known.all_inert) return true;
    const pb::Reflection& r = *m.GetReflection();
    if (!r.GetUnknownFields(m).empty())
      return refuse(path + (path.empty() ? "" : ".") + "#" + std::to_string(r.GetUnknownFields(m).field(0).number()),
                    "a field newer than this gateway");
    if (known.all_honoured) return true;
    std::vector<const pb::FieldDescriptor*> fields;
    r.ListFields(m, &fields);
    for (const pb::FieldDescriptor* f : fields) {
      const std::string at = path.empty() ? f->name() : path + "." + f->name();
      if (known.inert.contains(f->name())) continue;
      if (!known.honoured.contains(f->name())) return refuse(at, name);
      if (f->cpp_type() != pb::FieldDescriptor::CPPTYPE_MESSAGE) continue;
      if (f->is_map()) {
        if (!map(m, r, f, at)) return false;
      } else if (!f->is_repeated()) {
        if (!message(r.GetMessage(m, f), at)) return false;
      } else {
        for (int i = 0; i < r.FieldSize(m, f); i++)
          if (!message(r.GetRepeatedMessage(m, f, i), at + "[" + std::to_string(i) + "]")) return false;
      }
    }
    return true;
  }

 private:
  bool map(const pb::Message& m, const pb::Reflection& r, const pb::FieldDescriptor* f, const std::string& path) {
    const pb::FieldDescriptor* value = f->message_type()->map_value();
    if (value->cpp_type() != pb::FieldDescriptor::CPPTYPE_MESSAGE) return true;
    for (int i = 0; i < r.FieldSize(m, f); i++) {
      const pb::Message& entry = r.GetRepeatedMessage(m, f, i);
      const std::string key = entry.GetReflection()->GetString(entry, f->message_type()->map_key());
      if (!message(entry.GetReflection()->GetMessage(entry, value), path + "[" + key + "]")) return false;
    }
    return true;
  }
  bool any(const pb::Any& a, const std::string& path) {
    const auto inner = unpack(a.type_url(), a.value());
    if (inner == nullptr) return refuse(path, a.type_url());
    const std::string name = inner->GetDescriptor()->full_name();
    const auto it = table().messages.find(name);
    if (it == table().messages.end()) return refuse(path, name);
    if (it->second.all_inert) {
      // The type that stands behind Istio's wrapper says more than the wrapper.
      const auto* type_url = inner->GetDescriptor()->FindFieldByName("type_url");
      const bool wrapped = name == "udpa.type.v1.TypedStruct" || name == "xds.type.v3.TypedStruct";
      std::string type = wrapped ? inner->GetReflection()->GetString(*inner, type_url) : name;
      if (const size_t slash = type.rfind('/'); slash != type.npos) type = type.substr(slash + 1);
      if (wrapped && type != "io.istio.http.peer_metadata.Config" && type != "envoy.tcp.metadataexchange.config.MetadataExchange")
        return refuse(path, type);
      verdicts.ignored[type]++;
      return true;
    }
    return message(*inner, path);
  }
  bool refuse(const std::string& path, const std::string& what) {
    reason = path + ": not supported (" + what + ")";
    return false;
  }
};

}  // namespace

std::unique_ptr<pb::Message> unpack(const std::string& type_url, const std::string& bytes) {
  const size_t slash = type_url.rfind('/');
  const pb::Descriptor* d =
      pb::DescriptorPool::generated_pool()->FindMessageTypeByName(slash == type_url.npos ? type_url : type_url.substr(slash + 1));
  if (d == nullptr) return nullptr;
  std::unique_ptr<pb::Message> m(pb::MessageFactory::generated_factory()->GetPrototype(d)->New());
  return m->ParseFromString(bytes) ? std::move(m) : nullptr;
}

std::expected<Verdicts, std::string> judge(const pb::Message& resource) {
  Walk walk;
  if (!walk.message(resource, "")) return std::unexpected(walk.reason);
  return std::move(walk.verdicts);
}

}  // namespace sluice::compile
