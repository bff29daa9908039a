#include "dataplane/http/format.h"

#include <algorithm>
#include <charconv>
#include <ctime>
#include <utility>

#include "dataplane/base/json.h"

namespace sluice::http {
namespace {

struct Operator {
  std::string_view name;
  Op op;
  bool number;
};
constexpr Operator kOperators[] = {
#define X(id, name, number) {name, Op::id, number},
    SLUICE_FORMAT_OPERATORS(X)
#undef X
};

bool is_number(Op op) {
  for (const Operator& o : kOperators)
    if (o.op == op) return o.number;
  return false;
}

std::string lower(std::string_view s) {
  std::string out(s);
  std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return out;
}

}  // namespace

std::expected<std::vector<Piece>, std::string> Format::parse(std::string_view text) {
  std::vector<Piece> pieces;
  std::string literal;
  auto flush = [&] {
    if (!literal.empty()) pieces.push_back({Op::kLiteral, std::exchange(literal, {}), {}, {}, 0});
  };
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '%') {
      literal += text[i++];
      continue;
    }
    if (i + 1 < text.size() && text[i + 1] == '%') {
      literal += '%';
      i += 2;
      continue;
    }
    // %NAME%, %NAME(args)%, %NAME(args):Z%
    const std::string where = " at offset " + std::to_string(i) + " of the format";
    size_t at = i + 1;
    while (at < text.size() && ((text[at] >= 'A' && text[at] <= 'Z') || (text[at] >= '0' && text[at] <= '9') || text[at] == '_')) at++;
    const std::string_view name = text.substr(i + 1, at - i - 1);
    std::string_view args;
    if (at < text.size() && text[at] == '(') {
      const size_t close = text.find(')', at);
      if (close == text.npos) return std::unexpected("%" + std::string(name) + "(" + where + " has no closing parenthesis");
      args = text.substr(at + 1, close - at - 1);
      at = close + 1;
    }
    Piece piece;
    if (at < text.size() && text[at] == ':') {
      const auto [end, error] = std::from_chars(text.data() + at + 1, text.data() + text.size(), piece.length_max);
      if (error != std::errc()) return std::unexpected("%" + std::string(name) + where + ": the length after ':' is not a number");
      at = size_t(end - text.data());
    }
    if (at >= text.size() || text[at] != '%')
      return std::unexpected("operator '%" + std::string(name) + "'" + where + " does not end with '%'");
    const auto* found = std::ranges::find(kOperators, name, &Operator::name);
    if (found == std::end(kOperators)) return std::unexpected("unknown operator %" + std::string(name) + "%" + where);
    piece.op = found->op;
    if (piece.op == Op::kReq || piece.op == Op::kResp || piece.op == Op::kTrailer) {
      if (args.empty()) return std::unexpected("%" + std::string(name) + "%" + where + " needs a field name, as in %REQ(USER-AGENT)%");
      const size_t question = args.find('?');
      piece.a = lower(args.substr(0, question));
      if (question != args.npos) piece.b = lower(args.substr(question + 1));
    } else {
      piece.a = args;
    }
    flush();
    pieces.push_back(std::move(piece));
    i = at + 1;
  }
  flush();
  return pieces;
}

std::expected<std::shared_ptr<const Format>, std::string> Format::compile(std::string_view text) {
  auto pieces = parse(text);
  if (!pieces) return std::unexpected(pieces.error());
  auto f = std::make_shared<Format>();
  f->pieces_ = std::move(*pieces);
  return f;
}

std::expected<std::shared_ptr<const Format>, std::string> Format::compile_json(
    std::span<const std::pair<std::string, std::string>> fields) {
  auto f = std::make_shared<Format>();
  f->json_ = true;
  for (const auto& [key, text] : fields) {
    auto pieces = parse(text);
    if (!pieces) return std::unexpected("field \"" + key + "\": " + pieces.error());
    f->fields_.emplace_back(key, std::move(*pieces));
  }
  std::ranges::sort(f->fields_, {}, [](const auto& p) { return p.first; });
  return f;
}

static void render_pieces(const std::vector<Piece>& pieces, const Source& source, std::string_view unset, std::string& out) {
  for (const Piece& p : pieces) {
    if (p.op == Op::kLiteral) {
      out += p.text;
      continue;
    }
    const size_t before = out.size();
    if (!source.append(p, out)) out += unset;
    if (p.length_max != 0 && out.size() - before > p.length_max) out.resize(before + p.length_max);
  }
}

void Format::render(const Source& source, std::string& out) const {
  if (!json_) return render_pieces(pieces_, source, "-", out);
  out += '{';
  std::string value;
  for (size_t i = 0; i < fields_.size(); i++) {
    const auto& [key, pieces] = fields_[i];
    if (i > 0) out += ',';
    append_json_string(key, out);
    out += ':';
    value.clear();
    if (pieces.size() == 1 && pieces[0].op != Op::kLiteral) {  // a lone operator keeps its type
      if (!source.append(pieces[0], value)) out += "null";
      else if (is_number(pieces[0].op)) out += value;
      else append_json_string(value, out);
      continue;
    }
    render_pieces(pieces, source, "-", value);
    append_json_string(value, out);
  }
  out += "}\n";
}

void Format::render_value(const Source& source, std::string& out) const { render_pieces(pieces_, source, "", out); }

void append_time(int64_t wall_us, std::string_view format, std::string& out) {
  if (format.empty()) format = "%Y-%m-%dT%H:%M:%S.%3fZ";
  const std::time_t t = wall_us / 1'000'000;
  const auto fraction = unsigned(wall_us % 1'000'000);
  std::tm tm;
  gmtime_r(&t, &tm);
  std::string strf;
  for (size_t i = 0; i < format.size(); i++) {
    if (format[i] == '%' && i + 1 < format.size()) {
      const char n = format[i + 1];
      if (n >= '1' && n <= '9' && i + 2 < format.size() && format[i + 2] == 'f') {
        char digits[16];
        std::snprintf(digits, sizeof digits, "%06u000", fraction);
        strf.append(digits, size_t(n - '0'));
        i += 2;
        continue;
      }
      if (n == 's') {
        strf += std::to_string(t);
        i++;
        continue;
      }
      strf += '%';
      strf += n;
      i++;
      continue;
    }
    strf += format[i];
  }
  char text[256];
  out.append(text, std::strftime(text, sizeof text, strf.c_str(), &tm));
}

}  // namespace sluice::http
