//! The pictures in `docs/screens/`, taken from the real finders on a pseudo-terminal with a made-up
//! history. Those of the built-in one are compared with the files; fzf's depend on its version.
//!
//! `RUSTORY_WRITE_SCREENS=1 cargo test -p rustory --test finder screens` writes them all anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rustory_core::Timestamp;
use rustory_testkit::{Screen, Terminal, key};

use crate::home::{Home, entry, typed};

/// Columns and rows.
const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (40, 10)];
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Seconds ago, device, directory below the home, exit status, milliseconds, command; newest first.
type Row = (u64, &'static str, &'static str, i64, u64, &'static str);

const HISTORY: &[Row] = &[
    (MINUTE, "", "src/api", 0, 48, "git status --short"),
    (
        3 * MINUTE,
        "",
        "src/api",
        101,
        12_400,
        "cargo test --workspace",
    ),
    (
        4 * MINUTE,
        "",
        "src/api",
        0,
        95,
        "git commit -m \"토큰 검사: 만료를 먼저 본다\"",
    ),
    (
        9 * MINUTE,
        "",
        "src/api",
        0,
        31_000,
        "cargo build --release",
    ),
    (
        21 * MINUTE,
        "desk",
        "src/api",
        0,
        1_900,
        "git push -u origin fix/token-expiry",
    ),
    (32 * MINUTE, "desk", "src/api", 1, 420, "git push"),
    (
        47 * MINUTE,
        "desk",
        "src/api",
        0,
        12,
        "git switch -c fix/token-expiry",
    ),
    (
        HOUR,
        "",
        "src/site",
        0,
        6_300,
        "npm run build -- --mode production",
    ),
    (
        2 * HOUR,
        "",
        "src/site",
        0,
        210,
        "git commit -m \"✨ new landing page 🎉\"",
    ),
    (
        2 * HOUR,
        "nas",
        "",
        0,
        3_100,
        "zfs list -t snapshot -o name,used,creation",
    ),
    (
        3 * HOUR,
        "nas",
        "",
        0,
        900_000,
        "rsync -a --delete ~/photos/ backup:/tank/photos/",
    ),
    (
        4 * HOUR,
        "",
        "src/api",
        130,
        182_000,
        "docker compose logs -f gateway",
    ),
    (
        5 * HOUR,
        "",
        "src/api",
        0,
        8_800,
        "docker compose up -d --build gateway",
    ),
    (6 * HOUR, "desk", "", 0, 75, "systemctl --user restart mpd"),
    (
        7 * HOUR,
        "desk",
        "src/dotfiles",
        0,
        18,
        "git add -p && git commit -v",
    ),
    (
        8 * HOUR,
        "",
        "문서",
        0,
        1_200,
        "pandoc 보고서.md -o 보고서.pdf --pdf-engine=xelatex",
    ),
    (
        9 * HOUR,
        "",
        "src/api",
        0,
        33,
        "git log --oneline --graph -20",
    ),
    (
        11 * HOUR,
        "",
        "src/api",
        0,
        140,
        "git rebase -i origin/main",
    ),
    (
        DAY,
        "",
        "src/api",
        0,
        2_400,
        "kubectl -n staging rollout status deploy/gateway",
    ),
    (
        DAY,
        "",
        "src/api",
        1,
        300,
        "kubectl -n staging apply -f deploy/gateway.yaml",
    ),
    (2 * DAY, "desk", "src/api", 0, 51, "git stash push -m wip"),
    (
        2 * DAY,
        "",
        "",
        0,
        640,
        "for f in *.heic; do\n  magick \"$f\" \"${f%.heic}.jpg\"\ndone",
    ),
    (
        3 * DAY,
        "",
        "src/api",
        0,
        9_700,
        "git clone git@git.example:api.git",
    ),
    (
        4 * DAY,
        "nas",
        "",
        0,
        2_000,
        "smartctl -a /dev/sda | grep -i temperature",
    ),
    (6 * DAY, "", "src/site", 0, 27, "git cherry-pick 4b1f124"),
    (
        8 * DAY,
        "",
        "",
        0,
        4_200,
        "ssh desk 'journalctl -u gateway -n 100'",
    ),
    (
        9 * DAY,
        "",
        "src/site",
        128,
        9,
        "git push --force-with-lease",
    ),
    (
        12 * DAY,
        "",
        "",
        0,
        1_100,
        "curl -fsS https://api.example/health | jq .",
    ),
    (
        20 * DAY,
        "desk",
        "src/api",
        0,
        64,
        "git bisect start HEAD v2.3.0",
    ),
    (33 * DAY, "", "", 0, 88_000, "sudo apt full-upgrade"),
    (
        40 * DAY,
        "",
        "src/api",
        0,
        150,
        "git tag -s v2.3.0 -m 'v2.3.0'",
    ),
    (
        70 * DAY,
        "",
        "",
        0,
        52,
        "git config --global pull.rebase true",
    ),
    (
        90 * DAY,
        "nas",
        "",
        0,
        70,
        "git init --bare /tank/git/notes.git",
    ),
    (400 * DAY, "", "", 0, 15, "ssh-keygen -t ed25519 -C laptop"),
];

fn home() -> Home {
    let home = Home::new();
    let now = Timestamp::from_jiff(jiff::Timestamp::now()).unwrap();
    let now = now.as_micros() / 1_000_000;
    let rows = (1..).zip(HISTORY.iter().rev());
    home.store(
        rows.map(|(at, &(secs_ago, device, dir, exit_code, ms, cmd))| {
            let mut entry = entry(at, typed(cmd));
            // In a minute from now at the earliest, an age is another one.
            let ts = now - secs_ago as i64 - 1;
            entry.ts = Timestamp::from_secs(ts).unwrap();
            entry.device_id = device.to_owned();
            entry.hostname = if device.is_empty() { "laptop" } else { device }.to_owned();
            entry.cwd = match dir {
                "" => home.path().to_str().unwrap().into(),
                dir => format!("{}/{dir}", home.path().display()).into(),
            };
            entry.exit_code = Some(exit_code);
            entry.duration_ms = Some(ms);
            entry
        }),
    );
    home.meet("desk", "desk", 2 * MINUTE);
    home.meet("nas", "nas", 2 * HOUR);
    home.meet("phone", "phone", 9 * DAY);
    fs::create_dir_all(home.path().join("src/api")).unwrap();
    home
}

fn start(home: &Home, finder: &str, theme: &str, (cols, rows): (u16, u16)) -> Terminal {
    home.search(&format!("--finder {finder}"))
        .cwd(home.path().join("src/api"))
        .env("RUSTORY_SESSION", "s1")
        .env("RUSTORY_THEME", theme)
        .env("TZ", "UTC")
        .size(rows, cols)
        .start()
}

/// Waits until everything is loaded, found and looked up.
fn settled(terminal: &Terminal, finder: &str, count: &str, failed: usize) {
    terminal.wait_for(count, |screen| {
        let text = screen.contents();
        // fzf's list does not tell what failed.
        let marks = if finder == "fzf" {
            failed
        } else {
            text.matches(" ✗ ").count()
        };
        let is_known = text.contains(" · exit ") || text.contains(" ago · ");
        text.contains(count) && marks == failed && is_known
    });
}

/// A search of the history on a screen of that size.
fn picture(home: &Home, finder: &str, theme: &str, size: (u16, u16)) -> Screen {
    let mut terminal = start(home, finder, theme, size);
    terminal.wait_for("the list", |screen| screen.contents().contains("34/34"));
    if finder == "fzf" && size.1 < 16 {
        terminal.send(key::ctrl('v'));
    }
    terminal.send("git");
    let failed = match size.1 {
        10 => 1,
        24 => 2,
        _ => 3,
    };
    settled(&terminal, finder, "21/34", failed);
    terminal.send(key::UP.repeat(3));
    terminal.wait_for("the fourth row", |screen| {
        screen.contents().contains("exit 1 ")
    });
    settled(&terminal, finder, "21/34", failed);
    terminal.snapshot()
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/screens")
}

/// What is on the screen, with the one thing in it that is not always the same replaced.
fn text(screen: &Screen) -> String {
    let (_, cols) = screen.size();
    let rows: Vec<String> = screen
        .rows(0, cols.get())
        .map(|row| without_date(row.trim_end()))
        .collect();
    format!("{}\n", rows.join("\n"))
}

/// `2026-11-23 10:32:18` becomes a date that stays.
fn without_date(row: &str) -> String {
    const FORM: &str = "2026-11-23 10:32:18";
    let is_date = |text: &str| {
        text.chars()
            .zip(FORM.chars())
            .all(|(char, form)| match form.is_ascii_digit() {
                true => char.is_ascii_digit(),
                false => char == form,
            })
    };
    let found = row.char_indices().map(|(at, _)| at).find(|&at| {
        let date = row.get(at..at + FORM.len());
        date.is_some_and(is_date)
    });
    match found {
        Some(at) => format!("{}{FORM}{}", &row[..at], &row[at + FORM.len()..]),
        None => row.to_owned(),
    }
}

fn wants_to_write() -> bool {
    std::env::var_os("RUSTORY_WRITE_SCREENS").is_some()
}

fn compare(name: &str, found: &str) {
    let path = directory().join(name);
    if wants_to_write() {
        fs::create_dir_all(directory()).unwrap();
        fs::write(&path, found).unwrap();
    }
    let expect = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expect == found,
        "{name} is another picture now; `RUSTORY_WRITE_SCREENS=1 cargo test -p rustory --test finder screens` \
         writes it anew:\n{found}"
    );
}

#[test]
fn the_documents_show_the_finder_as_it_is() {
    let home = home();
    for size in SIZES {
        let (cols, rows) = size;
        let screen = picture(&home, "builtin", "dark", size);
        compare(&format!("builtin-{cols}x{rows}.txt"), &text(&screen));
        if wants_to_write() {
            write_pictures(&home, size);
        }
    }
    let mut terminal = start(&home, "builtin", "dark", SIZES[0]);
    terminal.wait_for("the list", |screen| screen.contents().contains("34/34"));
    terminal.send(key::ctrl('o'));
    terminal.wait_for("the keys", |screen| screen.contents().contains("any key"));
    compare("builtin-keys.txt", &text(&terminal.snapshot()));
}

fn write_pictures(home: &Home, size: (u16, u16)) {
    let (cols, rows) = size;
    for finder in ["builtin", "fzf"] {
        for theme in ["dark", "light"] {
            let screen = picture(home, finder, theme, size);
            let name = format!("{finder}-{cols}x{rows}");
            if finder == "fzf" {
                fs::write(directory().join(format!("{name}.txt")), text(&screen)).unwrap();
            }
            let svg = svg(&screen, theme);
            fs::write(directory().join(format!("{name}-{theme}.svg")), svg).unwrap();
        }
    }
}

const CELL_WIDTH: f64 = 8.4;
const CELL_HEIGHT: f64 = 18.0;
const MARGIN: f64 = 10.0;

/// The screen as a picture, with the terminal's own colours as a usual theme has them.
fn svg(screen: &Screen, theme: &str) -> String {
    let (background, foreground) = match theme {
        "dark" => ("#1e1e1e", "#d4d4d4"),
        _ => ("#ffffff", "#24292f"),
    };
    let (rows, cols) = screen.size();
    let width = f64::from(cols.get()) * CELL_WIDTH + 2.0 * MARGIN;
    let height = f64::from(rows.get()) * CELL_HEIGHT + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         font-family=\"ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{background}\"/>\n"
    );
    for row in 0..rows.get() {
        for run in runs(screen, row, cols.get()) {
            run.draw(&mut svg, row, background, foreground);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Cells of one style side by side.
struct Run {
    col: u16,
    width: u16,
    text: String,
    style: Style,
}

#[derive(PartialEq)]
struct Style {
    front: vt100::Color,
    behind: vt100::Color,
    bold: bool,
    dim: bool,
    underline: bool,
}

fn style(cell: &vt100::Cell) -> Style {
    let (mut front, mut behind) = (cell.fgcolor(), cell.bgcolor());
    if cell.inverse() {
        std::mem::swap(&mut front, &mut behind);
    }
    Style {
        front,
        behind,
        bold: cell.bold(),
        dim: cell.dim(),
        underline: cell.underline(),
    }
}

fn runs(screen: &Screen, row: u16, cols: u16) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for col in 0..cols {
        let Some(cell) = screen
            .cell(row, col)
            .filter(|cell| !cell.is_wide_continuation())
        else {
            continue;
        };
        let (style, width) = (style(cell), if cell.is_wide() { 2 } else { 1 });
        let text = if cell.has_contents() {
            cell.contents()
        } else {
            " "
        };
        match runs.last_mut() {
            // Fonts differ about wide letters: each has a place of its own.
            Some(run)
                if run.style == style
                    && width == 1
                    && run.width == run.text.chars().count() as u16 =>
            {
                run.text.push_str(text);
                run.width += 1;
            }
            _ => runs.push(Run {
                col,
                width,
                text: text.to_owned(),
                style,
            }),
        }
    }
    runs
}

impl Run {
    fn draw(&self, svg: &mut String, row: u16, background: &str, foreground: &str) {
        let x = MARGIN + f64::from(self.col) * CELL_WIDTH;
        let y = MARGIN + f64::from(row) * CELL_HEIGHT;
        if self.style.behind != vt100::Color::Default {
            let width = f64::from(self.width) * CELL_WIDTH;
            let fill = hex(self.style.behind, foreground);
            writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{CELL_HEIGHT}\" fill=\"{fill}\"/>"
            )
            .unwrap();
        }
        let text = without_date(&self.text);
        let shown = text.trim_end();
        if shown.trim_start().is_empty() {
            return;
        }
        let default = match self.style.behind {
            vt100::Color::Default => foreground,
            _ if self.style.front == vt100::Color::Default => foreground,
            _ => background,
        };
        let mut more = String::new();
        for (wanted, attribute) in [
            (self.style.bold, " font-weight=\"bold\""),
            (self.style.dim, " opacity=\"0.6\""),
            (self.style.underline, " text-decoration=\"underline\""),
        ] {
            if wanted {
                more.push_str(attribute);
            }
        }
        let columns = self.width - (text.chars().count() - shown.chars().count()) as u16;
        let length = f64::from(columns) * CELL_WIDTH;
        let fill = hex(self.style.front, default);
        let shown = shown.replace('&', "&amp;").replace('<', "&lt;");
        let baseline = y + 13.5;
        writeln!(
            svg,
            "<text xml:space=\"preserve\" x=\"{x:.1}\" y=\"{baseline:.1}\" fill=\"{fill}\"{more} \
             textLength=\"{length:.1}\">{shown}</text>"
        )
        .unwrap();
    }
}

fn hex(colour: vt100::Color, default: &str) -> String {
    let [red, green, blue] = match colour {
        vt100::Color::Default => return default.to_owned(),
        vt100::Color::Rgb(red, green, blue) => [red, green, blue],
        vt100::Color::Idx(number) => rgb(number),
    };
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// As xterm has them.
fn rgb(number: u8) -> [u8; 3] {
    const LOWER: [[u8; 3]; 16] = [
        [0, 0, 0],
        [205, 0, 0],
        [0, 205, 0],
        [205, 205, 0],
        [0, 0, 238],
        [205, 0, 205],
        [0, 205, 205],
        [229, 229, 229],
        [127, 127, 127],
        [255, 0, 0],
        [0, 255, 0],
        [255, 255, 0],
        [92, 92, 255],
        [255, 0, 255],
        [0, 255, 255],
        [255, 255, 255],
    ];
    let step = |digit: u8| [0, 95, 135, 175, 215, 255][usize::from(digit)];
    match number {
        0..16 => LOWER[usize::from(number)],
        16..232 => {
            let cube = number - 16;
            [step(cube / 36), step(cube / 6 % 6), step(cube % 6)]
        }
        _ => [8 + 10 * (number - 232); 3],
    }
}
