/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One file's text: lines, continuations, sections, assignments. */

#include <assert.h>
#include <string.h>
#include <syslog.h>

#include "cleanup.h"
#include "config.h"
#include "message.h"
#include "namespace.h"
#include "setting.h"
#include "utf8.h"

#define WHITESPACE " \t\f\v"

/* Tells something about a line of the file, or of all of it (0). */
#define tell(parser, level, number, ...) \
        message_tell(&(parser)->messenger, (level), (parser)->file, (number), __VA_ARGS__)

struct parser {
        struct config *config;
        const char *file;
        struct messenger messenger;

        char *line;      /* the assembled line, of CONFIG_LINE_MAX bytes and a NUL */
        size_t size;     /* bytes of it */
        unsigned number; /* of its first line in the file */
        bool assembling; /* the line so far ended in a backslash */
        bool discarding; /* ... and was wrong already */

        char *section;        /* NULL: none yet */
        bool section_ignored; /* an unknown one, which was said */
        void *target;         /* what its settings are set in */
};

static void parser_done(struct parser *parser) {
        free(parser->line);
        free(parser->section);
}

/* Removes the spaces around it, in place. */
static char *strip(char *text) {
        size_t size;

        text += strspn(text, WHITESPACE);
        size = strlen(text);
        while (size > 0 && strchr(WHITESPACE, text[size - 1]))
                size--;
        text[size] = '\0';

        return text;
}

/* "[Namespace NAME]": it may be one that was begun before, in this file or another. */
static int begin_namespace(struct parser *parser, const char *name) {
        struct config_namespace *namespace;
        struct quoted quoted;
        int r;

        r = namespace_get(parser->config, name, parser->file, parser->number, &namespace);
        switch (r) {
        case -EINVAL:
                tell(parser, LOG_ERR, parser->number,
                     "[Namespace %s]: expected a name of 1 to %i letters, digits, \"-\", \"_\" and \".\".",
                     message_quote(&quoted, name), CONFIG_NAMESPACE_NAME_MAX);
                return 0;
        case -ERANGE:
                tell(parser, LOG_ERR, parser->number, "[Namespace %s]: there are more than %i namespaces.",
                     name, CONFIG_NAMESPACES_MAX);
                return 0;
        case 0:
                parser->target = namespace;
                parser->section_ignored = false;
                return 0;
        default:
                return r;
        }
}

static int begin_section(struct parser *parser, char *line) {
        size_t size = strlen(line);
        struct quoted quoted;

        free(parser->section);
        parser->section = NULL;
        parser->section_ignored = true; /* what follows a header that is none is not complained about again */

        if (size < 3 || line[size - 1] != ']') {
                tell(parser, LOG_ERR, parser->number, "\"%s\": expected a section such as [Server].",
                     message_quote(&quoted, line));
                return 0;
        }

        line[size - 1] = '\0';
        line++;
        size = strcspn(line, WHITESPACE);
        if (size == strlen(NAMESPACE_SECTION) && strncmp(line, NAMESPACE_SECTION, size) == 0) {
                parser->section = strdup(NAMESPACE_SECTION);
                return parser->section ? begin_namespace(parser, strip(line + size)) : -ENOMEM;
        }

        parser->section = strdup(line);
        if (!parser->section)
                return -ENOMEM;

        parser->target = parser->config;
        if (setting_section_exists(parser->section))
                parser->section_ignored = false;
        else if (strncmp(parser->section, "X-", 2) != 0)
                tell(parser, LOG_WARNING, parser->number, "Unknown section [%s], ignored.",
                     message_quote(&quoted, parser->section));

        return 0;
}

static int assign(struct parser *parser, char *line) {
        struct quoted quoted_name, quoted_value;
        const struct setting *setting;
        char *separator, *name, *value, expected[256];
        int r;

        separator = strchr(line, '=');
        if (!separator || separator == line) {
                tell(parser, LOG_ERR, parser->number,
                     "\"%s\": expected Name=value, a [Section] or a # comment.",
                     message_quote(&quoted_name, line));
                return 0;
        }

        *separator = '\0';
        name = strip(line);
        value = strip(separator + 1);

        if (parser->section_ignored)
                return 0;
        if (!parser->section) {
                tell(parser, LOG_ERR, parser->number,
                     "%s= stands before any section: expected [Server] or [Store] above it.",
                     message_quote(&quoted_name, name));
                return 0;
        }

        setting = setting_find(parser->section, name);
        if (!setting) {
                if (strncmp(name, "X-", 2) != 0)
                        tell(parser, LOG_WARNING, parser->number,
                             "Unknown setting %s= in section [%s], ignored.",
                             message_quote(&quoted_name, name), parser->section);
                return 0;
        }

        r = setting_apply(setting, parser->target, value, &(struct place){ parser->file, parser->number });
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                setting_describe(setting, expected, sizeof(expected));
                tell(parser, LOG_ERR, parser->number, "%s=%s: %s: expected %s.", setting->name,
                     message_quote(&quoted_value, value), r == -ERANGE ? "out of range" : "not understood",
                     expected);
        }

        return 0;
}

static int parse_line(struct parser *parser) {
        char *line = strip(parser->line);

        if (!*line)
                return 0;
        if (*line == '[')
                return begin_section(parser, line);

        return assign(parser, line);
}

/* A backslash that no other one precedes, at the very end. */
static bool is_continued(const char *line, size_t size) {
        size_t n = 0;

        while (n < size && line[size - 1 - n] == '\\')
                n++;

        return n % 2 == 1;
}

/* Takes one line of the file, without its end. */
static int take_line(struct parser *parser, const char *line, size_t size, unsigned number) {
        const char *wrong = NULL;
        size_t blank = 0;
        bool continued;

        while (blank < size && line[blank] != '\0' && strchr(WHITESPACE, line[blank]))
                blank++;
        if (blank < size && (line[blank] == '#' || line[blank] == ';'))
                return 0; /* also between a line and its continuation */

        if (!parser->assembling) {
                parser->number = number;
                parser->size = 0;
        }

        continued = is_continued(line, size);
        if (memchr(line, '\0', size))
                wrong = "There is a NUL byte in the line.";
        else if (!utf8_is_valid(line, size))
                wrong = "The line is not UTF-8.";
        else if (parser->size + size > CONFIG_LINE_MAX)
                wrong = "The line is longer than 64K.";

        if (wrong && !parser->discarding) {
                tell(parser, LOG_ERR, number, "%s", wrong);
                parser->discarding = true;
        }

        if (!parser->discarding) {
                memcpy(parser->line + parser->size, line, size);
                parser->size += size;
                if (continued)
                        parser->line[parser->size - 1] = ' ';
        }

        parser->assembling = continued;
        if (continued)
                return 0;
        if (parser->discarding) {
                parser->discarding = false;
                return 0;
        }

        parser->line[parser->size] = '\0';
        return parse_line(parser);
}

int config_parse(struct config *config,
                 const char *file,
                 const char *text,
                 size_t size,
                 config_message_fn message,
                 void *userdata) {
        _cleanup_(parser_done) struct parser parser = {
                .config = config,
                .file = file,
                .messenger = { .message = message, .userdata = userdata },
        };
        const char *end = text + size;
        unsigned number = 0;
        int r;

        assert(config);
        assert(file);

        if (size > CONFIG_FILE_MAX) {
                tell(&parser, LOG_ERR, 0, "The file is larger than 1M.");
                return -EINVAL;
        }

        parser.line = malloc(CONFIG_LINE_MAX + 1);
        if (!parser.line)
                return -ENOMEM;

        if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
                text += 3;

        while (text < end) {
                const char *stop = memchr(text, '\n', (size_t) (end - text)) ?: end;
                size_t length = (size_t) (stop - text);

                if (length > 0 && text[length - 1] == '\r')
                        length--;
                r = take_line(&parser, text, length, ++number);
                if (r < 0)
                        return r;
                text = stop < end ? stop + 1 : end;
        }

        if (parser.assembling && !parser.discarding) { /* the file ends in a backslash */
                parser.line[parser.size] = '\0';
                r = parse_line(&parser);
                if (r < 0)
                        return r;
        }

        return parser.messenger.failed ? -EINVAL : 0;
}
