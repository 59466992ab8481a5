//! A QR code on a terminal, two rows of it to a line.

use qrcodegen::{QrCode, QrCodeEcc};

/// Light around the code, without which cameras don't find it. The standard asks for 4; what they
/// need in practice is half of that, and then a code fits a screen of 24 lines.
const QUIET: i32 = 2;

/// A code that is ready to be shown.
pub(crate) struct Qr {
    code: QrCode,
}

impl Qr {
    /// `None`: the text is too long for any.
    pub(crate) fn of(text: &str) -> Option<Qr> {
        let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
        Some(Qr { code })
    }

    /// How many lines and columns it takes.
    pub(crate) fn size(&self) -> (u16, u16) {
        let side = u16::try_from(self.code.size() + 2 * QUIET).unwrap_or(u16::MAX);
        (side.div_ceil(2), side)
    }

    /// The lines. With colours it is dark on light on every terminal; without, light is what the
    /// terminal writes with, which is right on a dark one.
    pub(crate) fn lines(&self, colours: bool) -> Vec<String> {
        let (start, end) = match colours {
            true => ("\x1b[38;5;16;48;5;231m", "\x1b[0m"),
            false => ("", ""),
        };
        let all = -QUIET..self.code.size() + QUIET;
        let line = |y: i32| -> String {
            let pair = |x| {
                (
                    self.is_inked(x, y, colours),
                    self.is_inked(x, y + 1, colours),
                )
            };
            let shown = all.clone().map(|x| match pair(x) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
            format!("{start}{}{end}", shown.collect::<String>())
        };
        all.clone().step_by(2).map(line).collect()
    }

    /// Whether a module is painted, rather than left to the background.
    fn is_inked(&self, x: i32, y: i32, colours: bool) -> bool {
        // Below the last row there is nothing: half a line is left over.
        let beyond = y >= self.code.size() + QUIET;
        !beyond && self.code.get_module(x, y) == colours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pairing_code_of_a_device_without_a_hub_fits_an_ordinary_screen() {
        let qr = Qr::of(&"A".repeat(195)).unwrap();
        assert_eq!(qr.size(), (23, 45));
        let lines = qr.lines(false);
        assert_eq!(lines.len(), 23);
        assert!(lines.iter().all(|line| line.chars().count() == 45));
    }

    #[test]
    fn both_ways_of_showing_it_are_each_others_negative() {
        let qr = Qr::of("RR0123").unwrap();
        let (ink, light) = (qr.lines(true), qr.lines(false));
        let flip = |char| match char {
            '█' => ' ',
            '▀' => '▄',
            '▄' => '▀',
            _ => '█',
        };
        for (ink, light) in ink.iter().zip(&light).take(light.len() - 1) {
            let ink = ink.strip_prefix("\x1b[38;5;16;48;5;231m").unwrap();
            let ink = ink.strip_suffix("\x1b[0m").unwrap();
            assert_eq!(ink.chars().map(flip).collect::<String>(), *light);
        }
    }
}
