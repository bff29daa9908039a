#include "dataplane/proxy/header_operations.h"

namespace sluice::proxy {
namespace {

using Action = tables::HeaderOperation::Action;

void apply(const tables::HeaderOperation& op, http::FieldList& fields, const http::Source& source, std::string& scratch) {
  scratch.clear();
  op.value->render_value(source, scratch);
  if (scratch.empty() && !op.keep_empty) return;
  const bool present = fields.has(op.name);
  switch (op.action) {
    case Action::kAppendIfExistsOrAdd: fields.add(op.name, scratch); return;
    case Action::kAddIfAbsent:
      if (!present) fields.add(op.name, scratch);
      return;
    case Action::kOverwriteIfExists:
      if (present) fields.set(op.name, scratch);
      return;
    case Action::kOverwriteIfExistsOrAdd: fields.set(op.name, scratch); return;
  }
}

}  // namespace

void apply_request(const tables::HeaderOperations& ops, http::RequestHead& head, const Record& record, std::string& scratch) {
  for (const std::string& name : ops.request_remove) head.fields.remove(name);
  const RecordSource source(record, &head, nullptr);
  for (const tables::HeaderOperation& op : ops.request_add) {
    if (op.name != ":authority" && op.name != "host" && op.name != ":path") {
      apply(op, head.fields, source, scratch);
      continue;
    }
    scratch.clear();
    op.value->render_value(source, scratch);
    (op.name == ":path" ? head.path : head.authority) = head.fields.arena().copy(scratch);
  }
}

void apply_response(const tables::HeaderOperations& ops, http::ResponseHead& head, const http::RequestHead& request, const Record& record,
                    std::string& scratch) {
  for (const std::string& name : ops.response_remove) head.fields.remove(name);
  const RecordSource source(record, &request, &head);
  for (const tables::HeaderOperation& op : ops.response_add) apply(op, head.fields, source, scratch);
}

}  // namespace sluice::proxy
