// Parsing of portfwdctl's command line, and of times, targets and names of objects in it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <fstream>

#include "ctl/command_line.h"
#include "ctl/commands.h"
#include "ctl/completions.h"
#include "ctl/text.h"
#include "ctl/when.h"
#include "support/temp_dir.h"

namespace portfwd::ctl {
namespace {

using namespace std::chrono_literals;

CommandLine parse(std::vector<std::string_view> words) {
  return parse_command_line(words);
}

std::string usage_of(const std::function<void()>& doing) {
  try {
    doing();
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.status(), Status::Usage);
    return failure.what();
  }
  return "no failure";
}

std::string mistake(std::vector<std::string_view> words) {
  return usage_of([&] { static_cast<void>(parse(words)); });
}

TEST(CtlCommandLineTest, OptionsMayStandAnywhereAndValuesMayBeAttached) {
  const CommandLine line =
      parse({"--json", "forward", "--label", "-x", "web", "--timeout=2", "8080", "--persist"});
  EXPECT_EQ(line.command->name, "forward");
  EXPECT_EQ(line.operands, (std::vector<std::string>{"web", "8080"}));
  EXPECT_TRUE(line.has("--json") && line.has("--persist"));
  EXPECT_EQ(line.value("--label"), "-x");
  EXPECT_EQ(line.value("--timeout"), "2");
  EXPECT_FALSE(line.value("--bind"));
}

TEST(CtlCommandLineTest, TwoDashesEndTheOptions) {
  EXPECT_EQ(parse({"detach", "--", "--odd-name"}).operands, std::vector<std::string>{"--odd-name"});
}

TEST(CtlCommandLineTest, AMistakeIsToldWithWhereToLook) {
  EXPECT_EQ(mistake({}), "no command given; see `portfwdctl --help`");
  EXPECT_EQ(mistake({"lst"}),
            "unknown command 'lst' (did you mean 'list'?); see `portfwdctl --help`");
  EXPECT_EQ(mistake({"frobnicate"}), "unknown command 'frobnicate'; see `portfwdctl --help`");
  EXPECT_EQ(mistake({"list", "--al"}), "unknown option '--al'; see `portfwdctl list --help`");
  EXPECT_EQ(mistake({"containers", "--al"}),
            "unknown option '--al' (did you mean '--all'?); see `portfwdctl containers --help`");
  EXPECT_EQ(mistake({"events", "--since"}), "--since needs WHEN; see `portfwdctl events --help`");
  EXPECT_EQ(mistake({"events", "--follow=yes"}),
            "--follow takes no value; see `portfwdctl events --help`");
  EXPECT_EQ(mistake({"forward", "web"}),
            "forward needs CONTAINER TARGET[:HOSTPORT]; see `portfwdctl forward --help`");
  EXPECT_EQ(mistake({"list", "all"}),
            "list: unexpected argument 'all'; see `portfwdctl list --help`");
}

TEST(CtlCommandLineTest, RejectsAWordWhereATimeoutBelongs) {
  EXPECT_EQ(mistake({"--timeout", "list"}),
            "--timeout needs seconds, such as 2.5, at most 86400, not 'list'");
  EXPECT_EQ(mistake({"--timeout", "5"}), "no command given; see `portfwdctl --help`");
}

TEST(CtlCommandLineTest, EchoesAWordOnOneLineWithoutControlCharacters) {
  EXPECT_EQ(mistake({"\x1b[2J\n\u202e\xff"}),
            "unknown command '?[2J??"
            "?'; see `portfwdctl --help`");
  const std::string word(100000, 'x');
  const std::string option = "--" + word;
  for (const std::vector<std::string_view>& line :
       {std::vector<std::string_view>{word}, {"list", word}, {"list", option}}) {
    EXPECT_LT(mistake(line).size(), 150U);
  }
  EXPECT_LT(usage_of([&] { static_cast<void>(parse_target_or_fail(word)); }).size(), 150U);
  EXPECT_LT(usage_of([&] { static_cast<void>(parse_timeout(word)); }).size(), 150U);
}

TEST(CtlCommandLineTest, APortOperandMayNameTheContainer) {
  const auto read = [](std::string_view text) {
    const PortOperand operand = parse_port_operand(text);
    return operand.container + "|" + operand.target;
  };
  EXPECT_EQ(read("80"), "|80");
  EXPECT_EQ(read("53/udp"), "|53/udp");
  EXPECT_EQ(read("web:80"), "web|80");
  EXPECT_EQ(read("a:b:53/udp"), "a:b|53/udp");
  EXPECT_EQ(read("unix:/run/x"), "|unix:/run/x");
  EXPECT_EQ(read("unix:/run/x:1"), "|unix:/run/x:1");
  EXPECT_EQ(read("web:unix:/run/x:1"), "web|unix:/run/x:1");
  EXPECT_EQ(read("a:b:unix:@x"), "a:b|unix:@x");
  for (const char* wrong : {":80", "web:", "web:x", "web"}) {
    EXPECT_NE(usage_of([&] { static_cast<void>(parse_port_operand(wrong)); }).find("not a port"),
              std::string::npos)
        << wrong;
  }
}

TEST(CtlCommandLineTest, HelpNeedsNoOperands) {
  EXPECT_TRUE(parse({"forward", "--help"}).has("--help"));
  EXPECT_TRUE(parse({"-h"}).has("--help"));
  for (const Command& command : commands()) {
    EXPECT_NE(help().find(command.name), std::string::npos);
    for (const Option& option : command.options) {
      EXPECT_NE(help(command).find(option.name), std::string::npos) << command.name;
    }
  }
}

TEST(CtlCompletionsTest, KnowEveryCommandAndOption) {
  const auto expect_known = [](const std::string& script, const std::string& word) {
    EXPECT_NE(script.find(word), std::string::npos) << word << " is not in " << script;
  };
  const auto expect_option = [&](const Option& option) {
    expect_known(bash_completion(), std::string(option.name));
    expect_known(zsh_completion(), std::string(option.name) + "[");
    expect_known(fish_completion(), fmt::format(" -l {} ", option.name.substr(2)));
  };
  for (const Option& option : global_options()) expect_option(option);
  for (const Command& command : commands()) {
    expect_known(bash_completion(), std::string(command.name));
    expect_known(zsh_completion(), fmt::format("'{}:", command.name));
    expect_known(fish_completion(), fmt::format(" -a {} ", command.name));
    for (const Option& option : command.options) expect_option(option);
  }
}

/// The completions that bash offers for the last of these words.
std::string offered_by_bash(const std::string& words) {
  const testing_support::TempDir folder;
  const std::string script = folder.path() + "/completion";
  std::ofstream(script) << bash_completion() << "COMP_WORDS=(portfwdctl " << words
                        << ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_portfwdctl\n"
                        << "echo ${COMPREPLY[@]}\n";
  FILE* shell = ::popen(("bash " + script).c_str(), "re");
  std::array<char, 1000> text{};
  const std::size_t size = std::fread(text.data(), 1, text.size(), shell);
  EXPECT_EQ(::pclose(shell), 0);
  return std::string(text.data(), size);
}

TEST(CtlCompletionsTest, BashOffersWhatFitsThere) {
  EXPECT_EQ(offered_by_bash("for"), "forward\n");
  EXPECT_EQ(offered_by_bash("forward --h"), "--help --host-port --host\n");
  EXPECT_EQ(offered_by_bash("events --h"), "--help\n");
  EXPECT_EQ(offered_by_bash("forward --bind l"), "localhost\n");
  EXPECT_EQ(offered_by_bash("--json events --since ''"), "now -5min -1h\n");
  EXPECT_EQ(offered_by_bash("forward --label --"), "\n") << "a label is free text";
}

TEST(CtlCommandLineTest, ATimeoutIsSecondsWithAFraction) {
  EXPECT_EQ(parse_timeout("2.5"), 2500ms);
  EXPECT_EQ(parse_timeout("1"), 1s);
  for (const char* bad : {"", "0", "-1", "nan", "inf", "1e9", "1s", "x", " 1"}) {
    EXPECT_NE(usage_of([&] { static_cast<void>(parse_timeout(bad)); }), "no failure") << bad;
  }
}

TEST(CtlCommandLineTest, AForwardOperandIsATargetAndPerhapsAHostPort) {
  const auto check = [](std::string_view text, std::string_view target, std::optional<Port> port) {
    const ForwardOperand operand = parse_forward_operand(text);
    EXPECT_EQ(operand.target, target) << text;
    EXPECT_EQ(operand.host_port, port) << text;
  };
  check("8080", "8080", {});
  check("8080:18080", "8080", 18080);
  check("53/udp:5353", "53/udp", 5353);
  check("unix:/run/x.sock", "unix:/run/x.sock", {});
  check("unix:/run/x.sock:8080", "unix:/run/x.sock", 8080);
  check("unix:/run/a:b.sock", "unix:/run/a:b.sock", {});
  EXPECT_EQ(parse_forward_operand("unix:/run/x.sock:/tmp/y").target, "unix:/run/x.sock");
  EXPECT_EQ(parse_forward_operand("unix:/run/x.sock:/tmp/y").host, "unix:/tmp/y");
  check("vsock:1024", "vsock:1024", {});
  check("vsock:1024:8080", "vsock:1024", 8080);
  for (const char* bad :
       {"", "0", "65536", "abc", "8080:", "8080:0", "8080:65536", ":8080", "80/sctp"}) {
    EXPECT_NE(usage_of([&] { static_cast<void>(parse_forward_operand(bad)); }), "no failure")
        << bad;
  }
}

TEST(CtlCommandLineTest, OnlyWebAddressesAreOpened) {
  EXPECT_TRUE(is_web_address("http://127.0.0.1:8080/"));
  EXPECT_TRUE(is_web_address("https://[::1]:8443/"));
  for (const char* bad : {"", "file:///etc/passwd", "javascript:alert(1)", "--help", "HTTP:/x",
                          "http://a b", "http://a\nb"}) {
    EXPECT_FALSE(is_web_address(bad)) << bad;
  }
}

WallTime at(std::string_view text) {
  return parse_rfc3339(text).value_or(WallTime{});
}

TEST(CtlWhenTest, ATimeIsReadAsRfc3339) {
  const WallTime noon(1767268800s);
  EXPECT_EQ(at("2026-01-01T12:00:00Z"), noon);
  EXPECT_EQ(at("2026-01-01t14:30:00+02:30"), noon);
  EXPECT_EQ(at("2026-01-01 07:00:00-05:00"), noon);
  EXPECT_EQ(at("2026-01-01T12:00:00.5Z"), noon + 500ms);
  EXPECT_EQ(at("2026-01-01T12:00:00.123456789Z"), noon + 123456us);
  EXPECT_EQ(at("2024-02-29T00:00:00Z"), WallTime(1709164800s));
  for (const char* bad :
       {"", "2026-01-01", "2026-13-01T12:00:00Z", "2026-02-29T12:00:00Z", "2026-01-01T24:00:00Z",
        "2026-01-01T12:60:00Z", "2026-01-01T12:00:00", "2026-01-01T12:00:00.Z",
        "2026-01-01T12:00:00Zx", "2026-01-01T12:00:00+24:00", "2026-01-01T12:00:00.1234567890Z",
        "yesterday"}) {
    EXPECT_FALSE(parse_rfc3339(bad)) << bad;
  }
}

TEST(CtlWhenTest, WhatIsPrintedCanBeReadAgain) {
  const WallTime time(1767268800123456us);
  EXPECT_EQ(rfc3339(time), "2026-01-01T12:00:00.123456Z");
  EXPECT_EQ(at(rfc3339(time)), time);
  EXPECT_EQ(rfc3339(WallTime{}), "1970-01-01T00:00:00.000000Z");
}

TEST(CtlWhenTest, SinceIsATimeASpanNowOrANumber) {
  const WallTime now(1767268800s);
  EXPECT_EQ(parse_since("now", now), Since(now));
  EXPECT_EQ(parse_since("#17", now), Since(std::uint64_t{17}));
  EXPECT_EQ(parse_since("-5min", now), Since(now - 5min));
  EXPECT_EQ(parse_since("-1h30m", now), Since(now - 90min));
  EXPECT_EQ(parse_since("-2weeks", now), Since(now - 336h));
  EXPECT_EQ(parse_since("2026-01-01T12:00:00Z", now), Since(now));
  for (const char* bad : {"", "#", "#-1", "#1x", "#99999999999999999999", "-", "-5", "-5parsecs",
                          "5min", "-99999999999d", "tomorrow"}) {
    EXPECT_FALSE(parse_since(bad, now)) << bad;
  }
}

}  // namespace
}  // namespace portfwd::ctl
