"""What the demo shows: steps with their times, and two columns, Matrix to the left and Messenger to the right.

Colour and redrawing only on a terminal, arrows only where the encoding has them: piped into a file it is plain text.
"""

import os
import shutil
import sys
import unicodedata

BOLD, DIM, RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN = "1", "2", "31", "32", "33", "34", "35", "36"
NAME = 8  # columns of a speaker's name
MARGIN = "  "


def columns_of(text):
    """How many columns of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 or char in "\ufe0f\u200d" for char in text)


def pad(text, columns):
    return text + " " * max(0, columns - columns_of(text))


def wrap(text, columns):
    """Lines of at most `columns`, broken at blanks where there are any."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if columns_of(longer) <= columns:
                line = longer
                continue
            if line:
                lines.append(line)
            while columns_of(word) > columns:
                lines.append(word[:columns])
                word = word[columns:]
            line = word
        lines.append(line)
    return lines


class Screen:
    def __init__(self, out=sys.stdout):
        self.out = out
        self.tty = out.isatty() and os.environ.get("TERM") != "dumb"
        self.colours = self.tty and "NO_COLOR" not in os.environ
        try:
            "✓▸─…".encode(out.encoding or "ascii")
            self.good, self.bad, self.to, self.fro, self.rule, self.dots = "✓", "✗", "──▸", "◂──", "─", "…"
        except UnicodeEncodeError:
            out.reconfigure(errors="replace")
            self.good, self.bad, self.to, self.fro, self.rule, self.dots = "ok", "XX", "-->", "<--", "-", "..."
        self.width = max(80, min(118, shutil.get_terminal_size((100, 24)).columns)) - 2 * len(MARGIN)
        self.pending = None
        self.gone = lambda: None  # called when nobody is left to read

    def paint(self, text, *codes):
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self.colours and codes and text else text

    def write(self, text):
        try:
            self.out.write(text)
            self.out.flush()
        except OSError:
            # A closed terminal or pipe. What is still said is said to nobody.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.out.fileno())
            self.gone()

    def line(self, text=""):
        self.clear()
        self.write(f"{MARGIN}{text}\n" if text else "\n")
        self.redraw()

    def clear(self):
        if self.pending:
            self.write("\r\x1b[K")

    def redraw(self):
        if self.pending:
            self.write(f"{MARGIN}{self.paint(self.dots, DIM)}  {self.paint(self.pending, DIM)}")

    def title(self, text):
        self.line()
        self.line(self.paint(text, BOLD))

    def begin(self, text):
        """A step is under way; on a terminal its line is there until it ends."""
        if self.tty:
            self.pending = text[: self.width - 8]
            self.redraw()

    def settle(self):
        """The step under way is over, without a word."""
        self.clear()
        self.pending = None

    def end(self, text, seconds, passed=True):
        self.settle()
        mark = self.paint(self.good, GREEN) if passed else self.paint(self.bad, RED, BOLD)
        self.line(f"{mark}  {pad(text, self.width - 14)}{self.paint(f'{seconds:7.1f} s', DIM)}")

    def heads(self):
        """The heads of the two columns."""
        left, right = self.sides()
        self.line()
        heads = pad("Matrix (Element)", left), pad("Messenger", right)
        self.line(f"{self.paint(heads[0], BOLD, BLUE)} {'':3} {self.paint(heads[1].rstrip(), BOLD, MAGENTA)}")
        self.line(self.paint(self.rule * self.width, DIM))

    def sides(self):
        left = (self.width - 5) // 2
        return left, self.width - 5 - left

    def row(self, left=None, arrow="", right=None, note=""):
        """One happening. `left` and `right` are (who, what) or nothing; `note` stands at the end of the right side."""
        widths = self.sides()
        if right is None and not arrow:
            widths = self.width, 0
        cells = [self.cell(side, width) for side, width in zip((left, right), widths)]
        if note:
            spare = widths[1] - columns_of(cells[1][-1][0]) - columns_of(note)
            if spare < 1:
                cells[1].append(("", ""))
                spare = widths[1] - columns_of(note)
            plain, painted = cells[1][-1]
            gap = " " * spare
            cells[1][-1] = (plain + gap + note, painted + gap + self.paint(note, DIM))
        for index in range(max(map(len, cells))):
            (plain, painted), (_, second) = (cell[index] if index < len(cell) else ("", "") for cell in cells)
            middle = self.paint(arrow or "   ", CYAN) if index == 0 else "   "
            gap = " " * max(0, widths[0] - columns_of(plain))
            self.line(f"{painted}{gap} {middle} {second}".rstrip())

    def cell(self, side, width):
        """The lines of one side, each plain (to measure) and painted."""
        if side is None:
            return [("", "")]
        who, what = side
        quiet = what.startswith("*")  # something that is shown rather than said
        name = pad(who[:NAME], NAME)
        colour = {"You": GREEN, "Bot": CYAN}.get(who, YELLOW)
        lines = []
        for index, text in enumerate(wrap(what.removeprefix("*").expandtabs(4), width - NAME - 1)):
            head = name if index == 0 else " " * NAME
            painted = self.paint(text, DIM) if quiet else text
            lines.append((f"{head} {text}", f"{self.paint(head, BOLD, colour)} {painted}"))
        return lines
