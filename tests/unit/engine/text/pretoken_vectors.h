/* Texts with the cuts the published expressions make, as the `tokenizers` package runs them. */
#ifndef PHID_TEST_PRETOKEN_VECTORS_H
#define PHID_TEST_PRETOKEN_VECTORS_H

/* clang-format off */
static const struct {
    const char *name;
    const char *pieces;
} pretoken_vectors[] = {
    {"llama-bpe",
     "Hello| | world|,| it|'s| |123|45|\n\n| | don|'T| | we|'LL|\x0d"
     "\n\x0d"
     "\n| x|!\?;/\n| "},
    {"llama-bpe",
     "HTMLParser| camelCase| iOS|'s| ABC|'S| |123|4\xd9\xa3"
     "| na\xc3\xaf"
     "ve"},
    {"llama-bpe",
     "  \x09\xc2\xa0"
     "|\xe3\x80\x80"
     "a| \xe1\xa0\x8e"
     "| b|\xe2\x80\xa8"
     "\n"},
    {"llama-bpe",
     "   "},
    {"llama-bpe",
     "\n \n\x09"
     "\n| | z"},
    {"llama-bpe",
     "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x83\x86\xe3\x82\xad\xe3\x82\xb9"
     "\xe3\x83\x88"
     "| \xe0\xb8\xaa\xe0\xb8\xa7"
     "|\xe0\xb8\xb1\xe0\xb8\xaa\xe0\xb8\x94"
     "|\xe0\xb8\xb5"
     "| e|\xcc\x81"
     "a| |\xe2\x85\xa7\xc2\xbd"},
    {"llama-bpe",
     "\xf0\xb1\x91\x97"
     "|'re| \xf0\x94\x86\x95"
     "x| |\xf0\x9e\x93\xb3"
     "| |7"},
    {"qwen2",
     "Hello| | world|,| it|'s| |1|2|3|4|5|\n\n| | don|'T| | we|'LL|\x0d"
     "\n\x0d"
     "\n| x|!\?;/\n| "},
    {"qwen2",
     "HTMLParser| camelCase| iOS|'s| ABC|'S| |1|2|3|4|\xd9\xa3"
     "| na\xc3\xaf"
     "ve"},
    {"qwen2",
     "  \x09\xc2\xa0"
     "|\xe3\x80\x80"
     "a| \xe1\xa0\x8e"
     "| b|\xe2\x80\xa8"
     "\n"},
    {"qwen2",
     "   "},
    {"qwen2",
     "\n \n\x09"
     "\n| | z"},
    {"qwen2",
     "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x83\x86\xe3\x82\xad\xe3\x82\xb9"
     "\xe3\x83\x88"
     "| \xe0\xb8\xaa\xe0\xb8\xa7"
     "|\xe0\xb8\xb1\xe0\xb8\xaa\xe0\xb8\x94"
     "|\xe0\xb8\xb5"
     "| e|\xcc\x81"
     "a| |\xe2\x85\xa7"
     "|\xc2\xbd"},
    {"qwen2",
     "\xf0\xb1\x91\x97"
     "|'re| \xf0\x94\x86\x95"
     "x| |\xf0\x9e\x93\xb3"
     "| |7"},
    {"gpt-4o",
     "Hello| | world|,| it's| |123|45|\n\n| | don'T| | we'LL|\x0d"
     "\n\x0d"
     "\n| x|!\?;/\n| "},
    {"gpt-4o",
     "HTMLParser| camel|Case| i|OS's| ABC'S| |123|4\xd9\xa3"
     "| na\xc3\xaf"
     "ve"},
    {"gpt-4o",
     "  \x09\xc2\xa0"
     "|\xe3\x80\x80"
     "a| \xe1\xa0\x8e"
     "| b|\xe2\x80\xa8"
     "\n"},
    {"gpt-4o",
     "   "},
    {"gpt-4o",
     "\n \n\x09"
     "\n| | z"},
    {"gpt-4o",
     "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x83\x86\xe3\x82\xad\xe3\x82\xb9"
     "\xe3\x83\x88"
     "| \xe0\xb8\xaa\xe0\xb8\xa7\xe0\xb8\xb1\xe0\xb8\xaa\xe0\xb8\x94\xe0\xb8\xb5"
     "| e\xcc\x81"
     "a| |\xe2\x85\xa7\xc2\xbd"},
    {"gpt-4o",
     "\xf0\xb1\x91\x97"
     "'re| \xf0\x94\x86\x95"
     "x| |\xf0\x9e\x93\xb3"
     "| |7"},
    {"gpt-2",
     "Hello| | world|,| it|'s| 12345|\n\n | don|'|T| | we|'|LL|\x0d"
     "\n\x0d"
     "\n| x|!\?;/|\n "},
    {"gpt-2",
     "HTMLParser| camelCase| iOS|'s| ABC|'|S| 1234\xd9\xa3"
     "| na\xc3\xaf"
     "ve"},
    {"gpt-2",
     "  \x09\xc2\xa0"
     "|\xe3\x80\x80"
     "|a| \xe1\xa0\x8e"
     "| b|\xe2\x80\xa8"
     "\n"},
    {"gpt-2",
     "   "},
    {"gpt-2",
     "\n \n\x09"
     "\n | z"},
    {"gpt-2",
     "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x83\x86\xe3\x82\xad\xe3\x82\xb9"
     "\xe3\x83\x88"
     "| \xe0\xb8\xaa\xe0\xb8\xa7"
     "|\xe0\xb8\xb1"
     "|\xe0\xb8\xaa\xe0\xb8\x94"
     "|\xe0\xb8\xb5"
     "| e|\xcc\x81"
     "|a| \xe2\x85\xa7\xc2\xbd"},
    {"gpt-2",
     "\xf0\xb1\x91\x97"
     "|'re| \xf0\x94\x86\x95"
     "x| \xf0\x9e\x93\xb3"
     "| 7"},
    {"smollm",
     "Hello| | world|,| it|'s| |1|2|3|4|5|\n\n | don|'|T| | we|'|LL|\x0d"
     "\n\x0d"
     "\n| x|!\?;/|\n "},
    {"smollm",
     "HTMLParser| camelCase| iOS|'s| ABC|'|S| |1|2|3|4|\xd9\xa3"
     "| na\xc3\xaf"
     "ve"},
    {"smollm",
     "  \x09\xc2\xa0"
     "|\xe3\x80\x80"
     "|a| \xe1\xa0\x8e"
     "| b|\xe2\x80\xa8"
     "\n"},
    {"smollm",
     "   "},
    {"smollm",
     "\n \n\x09"
     "\n | z"},
    {"smollm",
     "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x83\x86\xe3\x82\xad\xe3\x82\xb9"
     "\xe3\x83\x88"
     "| \xe0\xb8\xaa\xe0\xb8\xa7"
     "|\xe0\xb8\xb1"
     "|\xe0\xb8\xaa\xe0\xb8\x94"
     "|\xe0\xb8\xb5"
     "| e|\xcc\x81"
     "|a| |\xe2\x85\xa7"
     "|\xc2\xbd"},
    {"smollm",
     "\xf0\xb1\x91\x97"
     "|'re| \xf0\x94\x86\x95"
     "x| |\xf0\x9e\x93\xb3"
     "| |7"},
};
/* clang-format on */

#endif
