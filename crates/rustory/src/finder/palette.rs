//! Colours, chosen by contrast and not by taste alone: the test below computes it.
//!
//! `auto` has colours of middling brightness, which can be read on black and on white alike, since
//! asking a terminal for its background takes a round trip and eats keys that were typed ahead.
//! `dark` and `light` have more contrast on theirs. With `NO_COLOR`, weight and lines say the same.

use ratatui::style::{Color, Modifier, Style};

use crate::settings::Theme;

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A command.
    Text,
    Pointer,
    Matched,
    Failed,
    Prompt,
    Scope,
    Device,
    /// What stands beside: times, rules, hints.
    Beside,
}

/// Numbers among the 256 colours.
#[derive(Clone, Copy, Debug)]
struct Colours {
    pointer: u8,
    matched: u8,
    failed: u8,
    prompt: u8,
    scope: u8,
    device: u8,
    beside: u8,
    /// Behind the selected row.
    selected: Option<u8>,
}

const AUTO: Colours = Colours {
    pointer: 164,
    matched: 28,
    failed: 196,
    prompt: 63,
    scope: 130,
    device: 30,
    beside: 243,
    selected: None,
};

const DARK: Colours = Colours {
    pointer: 212,
    matched: 114,
    failed: 210,
    prompt: 111,
    scope: 179,
    device: 80,
    beside: 247,
    selected: Some(236),
};

const LIGHT: Colours = Colours {
    pointer: 126,
    matched: 22,
    failed: 124,
    prompt: 25,
    scope: 94,
    device: 23,
    beside: 240,
    selected: Some(254),
};

/// Styles, with and without colour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette(Option<Colours>);

impl Palette {
    pub(crate) fn new(theme: Theme) -> Palette {
        let colours = match theme {
            Theme::Auto => AUTO,
            Theme::Dark => DARK,
            Theme::Light => LIGHT,
        };
        Palette(crate::ui::colour(true).then_some(colours))
    }

    pub(crate) fn has_colour(self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn style(self, role: Role) -> Style {
        match &self.0 {
            Some(colours) => coloured(colours, role),
            None => plain(role),
        }
    }

    /// Of the selected row, under its parts.
    pub(crate) fn selected(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        match self.0.and_then(|colours| colours.selected) {
            Some(behind) => style.bg(Color::Indexed(behind)),
            None => style,
        }
    }

    /// The text between the sequences that colour it, for programs that understand them.
    pub(crate) fn ansi(self, role: Role, text: &str) -> String {
        match self.0.and_then(|colours| number(&colours, role)) {
            Some(number) => format!("\x1b[38;5;{number}m{text}\x1b[m"),
            None => text.to_owned(),
        }
    }
}

fn number(colours: &Colours, role: Role) -> Option<u8> {
    Some(match role {
        Role::Text => return None,
        Role::Pointer => colours.pointer,
        Role::Matched => colours.matched,
        Role::Failed => colours.failed,
        Role::Prompt => colours.prompt,
        Role::Scope => colours.scope,
        Role::Device => colours.device,
        Role::Beside => colours.beside,
    })
}

fn coloured(colours: &Colours, role: Role) -> Style {
    let style = match number(colours, role) {
        Some(number) => Style::new().fg(Color::Indexed(number)),
        None => Style::new(),
    };
    match role {
        Role::Pointer | Role::Matched | Role::Prompt => style.add_modifier(Modifier::BOLD),
        _ => style,
    }
}

fn plain(role: Role) -> Style {
    let style = Style::new();
    match role {
        Role::Matched => style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        Role::Pointer | Role::Prompt | Role::Scope => style.add_modifier(Modifier::BOLD),
        Role::Beside => style.add_modifier(Modifier::DIM),
        Role::Text | Role::Failed | Role::Device => style,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As xterm and its followers define the upper 240 colours.
    fn rgb(number: u8) -> [u8; 3] {
        if number >= 232 {
            return [8 + 10 * (number - 232); 3];
        }
        let step = |digit: u8| [0, 95, 135, 175, 215, 255][digit as usize];
        let cube = number
            .checked_sub(16)
            .expect("themes redefine the lower 16");
        [step(cube / 36), step(cube / 6 % 6), step(cube % 6)]
    }

    /// Contrast of two colours by WCAG 2: 1 to 21.
    fn contrast(one: [u8; 3], other: [u8; 3]) -> f64 {
        let luminance = |rgb: [u8; 3]| -> f64 {
            let linear = |byte: u8| match f64::from(byte) / 255.0 {
                low if low <= 0.04045 => low / 12.92,
                high => ((high + 0.055) / 1.055).powf(2.4),
            };
            0.2126 * linear(rgb[0]) + 0.7152 * linear(rgb[1]) + 0.0722 * linear(rgb[2])
        };
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn every_colour_can_be_read_on_the_backgrounds_it_is_for() {
        const BLACK: [u8; 3] = [0; 3];
        const NEARLY_BLACK: [u8; 3] = [30; 3];
        const WHITE: [u8; 3] = [255; 3];
        const NEARLY_WHITE: [u8; 3] = [238; 3];
        let roles = [
            Role::Pointer,
            Role::Matched,
            Role::Failed,
            Role::Prompt,
            Role::Scope,
            Role::Device,
            Role::Beside,
        ];
        for (colours, backgrounds, at_least) in [
            (AUTO, vec![BLACK, WHITE], 3.9),
            (DARK, vec![BLACK, NEARLY_BLACK], 4.5),
            (LIGHT, vec![WHITE, NEARLY_WHITE], 4.5),
        ] {
            let selected = colours.selected.map(rgb);
            for background in backgrounds.into_iter().chain(selected) {
                for role in roles {
                    let number = number(&colours, role).unwrap();
                    let found = contrast(rgb(number), background);
                    assert!(found >= at_least, "{role:?} on {background:?}: {found:.2}");
                }
            }
        }
    }
}
