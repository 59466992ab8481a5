//! The code that brings a new device into a swarm: what is in it, and how it is written so that it
//! survives being copied, wrapped, and typed. `docs/pairing.md` describes it for people.
//!
//! Whoever reads a code has the swarm key, so it is as secret as that, also after it has expired.

use std::fmt;

use minicbor::{Decode, Encode};
use xxhash_rust::xxh3::xxh3_64;

/// A multiaddr in its binary form.
pub use minicbor::bytes::ByteVec as AddrBytes;

/// The version of the code that this program writes and reads.
pub const VERSION: u8 = 1;

/// What every code begins with.
const PREFIX: &str = "RR";

/// Crockford's base 32: no `I`, `L`, `O` (read as `1`, `1`, `0`) and no `U`. It needs no shift key,
/// and a QR code packs it tightly.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Version, length of the payload, check of both: they alone tell "cut off" from "mistyped" and from
/// "of another version", so every version begins with them.
const HEADER_BYTES: usize = 5;
const HEADER_DIGITS: usize = HEADER_BYTES * 8 / 5;

/// The check of everything, at the end.
const CHECK_BYTES: usize = 4;

/// Longer texts are no code, in characters. A code has about 200.
const TEXT_MAX: usize = 8 * 1024;

/// What a device needs to know to become a member of a swarm.
///
/// Addresses and ids are in the binary forms of libp2p, opaque here. Fields have numbers, and those
/// that a version does not know are skipped; 9 is kept for an invitation that a member has signed.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Invitation {
    /// From when on it is no longer to be used, in seconds since 1970.
    #[n(0)]
    pub expires: u64,
    /// The swarm key. Secret.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub swarm_key: [u8; 32],
    /// The public key of the device that invites, which is its peer id.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub peer_key: [u8; 32],
    /// Where that device can be reached without anybody's help: multiaddrs.
    #[cbor(n(3), skip_if = "Vec::is_empty")]
    pub addrs: Vec<AddrBytes>,
    /// The swarm's hubs: multiaddrs, with their peer ids where they are known.
    #[cbor(n(4), skip_if = "Vec::is_empty")]
    pub hubs: Vec<AddrBytes>,
    /// Relays of other programs, in the same form.
    #[cbor(n(5), skip_if = "Vec::is_empty")]
    pub relays: Vec<AddrBytes>,
    /// Whose history it is.
    #[n(6)]
    pub user_id: Option<String>,
    /// Whether somebody chose that, rather than that it is a login name.
    #[n(7)]
    pub user_is_set: Option<bool>,
    /// What the device that invites is called.
    #[n(8)]
    pub device_name: Option<String>,
}

/// Redacted: a code is as secret as the swarm key.
impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation")
            .field("expires", &self.expires)
            .field("device_name", &self.device_name)
            .finish_non_exhaustive()
    }
}

/// Why a text is not a code that can be used. Places count from 1, blanks and hyphens left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// It does not look like a code at all.
    #[error("this is no pairing code: those begin with `{PREFIX}` and are one long word")]
    NotACode,
    /// It has a character that no code has.
    #[error("the pairing code is mistyped: it never has a `{found}`, as at place {place}")]
    Stray {
        /// Where.
        place: usize,
        /// Which.
        found: char,
    },
    /// One character is wrong, and it can be said which.
    #[error("the pairing code is mistyped: `{found}` at place {place} should be `{should}`")]
    OneWrong {
        /// Where.
        place: usize,
        /// What is there.
        found: char,
        /// What belongs there.
        should: char,
    },
    /// Something is wrong, and it can't be said where.
    #[error("the pairing code is mistyped: its check does not fit")]
    Mistyped,
    /// Its end, or something in between, is missing.
    #[error("the pairing code is cut off: {missing} of its {of} characters are missing")]
    Truncated {
        /// How many are missing.
        missing: usize,
        /// How many it should have.
        of: usize,
    },
    /// Something else was copied with it, or part of it twice.
    #[error("the pairing code has {extra} characters too many: something was copied with it")]
    TooLong {
        /// How many there are too many.
        extra: usize,
    },
    /// It is of a version that this program does not know.
    #[error("the pairing code is of version {version}, and this rr knows version {VERSION}")]
    OtherVersion {
        /// Its version.
        version: u8,
    },
    /// It arrived as it was written, and makes no sense.
    #[error("the pairing code has nothing in it that this rr can read")]
    Unreadable,
}

impl Invitation {
    /// The code: one word of capital letters and digits.
    #[must_use]
    pub fn to_code(&self) -> String {
        // Writing to a vector does not fail, and the fields are plain.
        let payload = minicbor::to_vec(self).unwrap_or_default();
        sealed(VERSION, &payload)
    }

    /// Reads a code. Case, blanks, line ends and hyphens do not matter, nor does an `rr join` before it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_code(text: &str) -> Result<Invitation, CodeError> {
        let code = normalized(text)?;
        let payload = match opened(&code) {
            Err(CodeError::Mistyped) => return Err(located(&code)),
            opened => opened?,
        };
        let mut decoder = minicbor::Decoder::new(&payload);
        decoder.decode().map_err(|_| CodeError::Unreadable)
    }

    /// Whether it is too late to use it, by this clock, in seconds since 1970.
    #[must_use]
    pub fn is_expired(&self, now: u64) -> bool {
        now >= self.expires
    }
}

/// Without what copying adds, and with each digit as it is written here.
fn normalized(text: &str) -> Result<String, CodeError> {
    if text.len() > TEXT_MAX {
        return Err(CodeError::NotACode);
    }
    let words = text.split_whitespace();
    let command = |word: &&str| {
        let name = word.rsplit('/').next().unwrap_or_default();
        matches!(name, "rr" | "rustory" | "join")
    };
    let chars = words
        .skip_while(command)
        .flat_map(str::chars)
        .filter(|char| *char != '-')
        .map(|char| match char.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            char => char,
        });
    let code: String = chars.collect();
    let looks_like_one = code.starts_with(PREFIX) || header(digits(&code)).is_some();
    if !looks_like_one {
        return Err(CodeError::NotACode);
    }
    let stray = code
        .chars()
        .enumerate()
        .find(|(_, char)| value(*char).is_none());
    match stray {
        Some((at, found)) => Err(CodeError::Stray {
            place: at + 1,
            found,
        }),
        None => Ok(code),
    }
}

/// What follows the prefix.
fn digits(code: &str) -> &str {
    code.get(PREFIX.len()..).unwrap_or_default()
}

fn value(digit: char) -> Option<u8> {
    let at = ALPHABET
        .iter()
        .position(|known| char::from(*known) == digit)?;
    u8::try_from(at).ok()
}

/// Version and length of the payload, if the check of both fits.
fn header(digits: &str) -> Option<(u8, u16)> {
    let bytes = from_base32(digits.get(..HEADER_DIGITS)?)?;
    let [version, high, low, check @ ..] = bytes.as_slice() else {
        return None;
    };
    let len = u16::from_be_bytes([*high, *low]);
    (check == header_check(*version, len)).then_some((*version, len))
}

fn header_check(version: u8, len: u16) -> [u8; 2] {
    let [high, low] = len.to_be_bytes();
    let [.., a, b] = xxh3_64(&[version, high, low]).to_be_bytes();
    [a, b]
}

fn check(version: u8, payload: &[u8]) -> [u8; CHECK_BYTES] {
    let [.., a, b, c, d] = xxh3_64(&[&[version], payload].concat()).to_be_bytes();
    [a, b, c, d]
}

fn sealed(version: u8, payload: &[u8]) -> String {
    let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut head = vec![version];
    head.extend(len.to_be_bytes());
    head.extend(header_check(version, len));
    let body = [payload, &check(version, payload)].concat();
    format!("{PREFIX}{}{}", to_base32(&head), to_base32(&body))
}

/// The payload, if everything fits.
fn opened(code: &str) -> Result<Vec<u8>, CodeError> {
    let digits = digits(code);
    let whole_header = digits.len() >= HEADER_DIGITS;
    let (version, len) = match header(digits) {
        Some(header) if code.starts_with(PREFIX) => header,
        None if !whole_header => {
            let of = PREFIX.len() + HEADER_DIGITS;
            return Err(CodeError::Truncated {
                missing: of - code.len(),
                of,
            });
        }
        _ => return Err(CodeError::Mistyped),
    };
    if version != VERSION {
        return Err(CodeError::OtherVersion { version });
    }
    let body_bytes = usize::from(len) + CHECK_BYTES;
    let of = PREFIX.len() + HEADER_DIGITS + (body_bytes * 8).div_ceil(5);
    match code.len() {
        has if has < of => {
            let missing = of - has;
            return Err(CodeError::Truncated { missing, of });
        }
        has if has > of => return Err(CodeError::TooLong { extra: has - of }),
        _ => {}
    }
    let body = digits.get(HEADER_DIGITS..).and_then(from_base32);
    let body = body.ok_or(CodeError::Mistyped)?;
    let (payload, told) = body
        .split_at_checked(usize::from(len))
        .ok_or(CodeError::Mistyped)?;
    match told == check(version, payload) {
        true => Ok(payload.to_vec()),
        false => Err(CodeError::Mistyped),
    }
}

/// Which single character is wrong, if putting another one there makes everything fit.
fn located(code: &str) -> CodeError {
    let chars: Vec<char> = code.chars().collect();
    for (at, found) in chars.iter().enumerate() {
        for should in ALPHABET.iter().map(|digit| char::from(*digit)) {
            let mut tried = chars.clone();
            tried[at] = should;
            if should != *found && opened(&tried.iter().collect::<String>()).is_ok() {
                return CodeError::OneWrong {
                    place: at + 1,
                    found: *found,
                    should,
                };
            }
        }
    }
    CodeError::Mistyped
}

fn to_base32(bytes: &[u8]) -> String {
    let bit = |n: usize| {
        bytes
            .get(n / 8)
            .is_some_and(|byte| byte & (0x80 >> (n % 8)) != 0)
    };
    (0..bytes.len() * 8)
        .step_by(5)
        .map(|at| {
            let value = (at..at + 5).fold(0, |value, n| value << 1 | usize::from(bit(n)));
            char::from(ALPHABET[value])
        })
        .collect()
}

/// `None` where there is another character, or bits that belong to no byte are not zero.
fn from_base32(digits: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut waiting, mut bits) = (Vec::new(), 0u32, 0);
    for digit in digits.chars() {
        waiting = waiting << 5 | u32::from(value(digit)?);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(waiting >> bits & 0xff).ok()?);
            waiting &= (1 << bits) - 1;
        }
    }
    (waiting == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn invitation() -> Invitation {
        Invitation {
            expires: 1_795_000_000,
            swarm_key: [0xa7; 32],
            peer_key: [0x5c; 32],
            addrs: vec![
                vec![4, 192, 168, 1, 4, 6, 0x12, 0x8b].into(),
                vec![4, 100, 64, 1, 4, 6, 0x12, 0x8b].into(),
            ],
            hubs: vec![],
            relays: vec![],
            user_id: Some("mina".to_owned()),
            user_is_set: None,
            device_name: Some("laptop".to_owned()),
        }
    }

    fn read(code: &str) -> Result<Invitation, CodeError> {
        Invitation::from_code(code)
    }

    #[test]
    fn a_code_is_one_word_for_fingers_and_survives_what_copying_does() {
        let code = invitation().to_code();
        assert!(code.chars().all(|char| value(char).is_some()), "{code}");
        assert!(code.len() <= 195, "fits a small QR code: {}", code.len());
        let (first, second) = code.split_at(80);
        for copied in [
            code.clone(),
            code.to_lowercase(),
            format!("  {first}\r\n{second}\n"),
            format!("rr join {code}"),
            format!("/opt/bin/rustory join {code}"),
            code.replace('0', "o").replace('1', "l"),
            code.chars()
                .enumerate()
                .flat_map(|(n, char)| (n % 5 == 4).then_some('-').into_iter().chain([char]))
                .collect(),
        ] {
            assert_eq!(read(&copied), Ok(invitation()), "{copied}");
        }
    }

    #[test]
    fn the_form_of_a_code_does_not_change_by_accident() {
        let mut small = invitation();
        (small.addrs, small.user_id, small.device_name) = (vec![], None, None);
        let code = small.to_code();
        let key = "MYKTF9X7MYKTF9X7MYKTF9X7MYKTF9X7MYKTF9X7MYKTF9X7MYK";
        let peer = "BHE5RQ2WBHE5RQ2WBHE5RQ2WBHE5RQ2WBHE5RQ2WBHE5RQ2WBHE";
        let expected = format!("RR0404V3KXMC01MTQXGV002P10{key}G4P10{peer}DJYF4G4");
        assert_eq!(code, expected);
    }

    #[test]
    fn what_is_no_code_is_named_so() {
        for text in [
            "",
            " ",
            "hello",
            "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1",
            "한글",
        ] {
            assert_eq!(read(text), Err(CodeError::NotACode), "{text}");
        }
        assert_eq!(read(&"R".repeat(10_000)), Err(CodeError::NotACode));
        assert!(matches!(read("rr join"), Err(CodeError::NotACode)));
        let with_u = invitation().to_code().replace('A', "U");
        assert!(
            matches!(read(&with_u), Err(CodeError::Stray { found: 'U', .. })),
            "{:?}",
            read(&with_u)
        );
    }

    #[test]
    fn a_code_of_another_version_says_so_and_only_where_it_is_whole_up_to_there() {
        let newer = sealed(7, b"something else");
        assert_eq!(read(&newer), Err(CodeError::OtherVersion { version: 7 }));
        let wrong = newer.replacen(&newer[2..3], "Z", 1);
        assert!(matches!(read(&wrong), Err(CodeError::Mistyped)), "{wrong}");
    }

    #[test]
    fn two_wrong_characters_are_noticed_and_more_than_one_code_is_too() {
        let code = invitation().to_code();
        let flip = |char: char| if char == '7' { '8' } else { '7' };
        let two: String = code
            .chars()
            .enumerate()
            .map(|(n, char)| if n == 20 || n == 90 { flip(char) } else { char })
            .collect();
        assert_eq!(read(&two), Err(CodeError::Mistyped));
        let extra = code.len();
        assert_eq!(read(&code.repeat(2)), Err(CodeError::TooLong { extra }));
    }

    #[test]
    fn fields_of_a_newer_version_are_skipped() {
        let mut bytes = Vec::new();
        let mut encoder = minicbor::Encoder::new(&mut bytes);
        encoder.map(5).unwrap();
        encoder.u32(0).unwrap().u32(9).unwrap();
        encoder.u32(1).unwrap().bytes(&[1; 32]).unwrap();
        encoder.u32(2).unwrap().bytes(&[2; 32]).unwrap();
        encoder.u32(9).unwrap().map(1).unwrap();
        encoder.str("signed").unwrap().bytes(&[3; 64]).unwrap();
        encoder.u32(40).unwrap().array(1).unwrap().f64(0.5).unwrap();
        let read = read(&sealed(VERSION, &bytes)).unwrap();
        assert_eq!((read.expires, read.peer_key), (9, [2; 32]));
        assert!(read.hubs.is_empty() && read.user_id.is_none());
    }

    #[test]
    fn a_whole_code_with_nonsense_in_it_is_unreadable() {
        for payload in [
            &b""[..],
            b"\xa0",
            b"\xff\xff",
            &[0x9f; 200],
            b"\xa1\x01\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(read(&sealed(VERSION, payload)), Err(CodeError::Unreadable));
        }
    }

    #[test]
    fn it_expires_at_its_time_and_shows_no_secret() {
        let invitation = invitation();
        assert!(!invitation.is_expired(1_794_999_999));
        assert!(invitation.is_expired(1_795_000_000));
        assert!(!format!("{invitation:?}").contains("167"));
    }

    fn any_invitation() -> impl Strategy<Value = Invitation> {
        let addrs = || {
            let addr = proptest::collection::vec(any::<u8>(), 0..60).prop_map(AddrBytes::from);
            proptest::collection::vec(addr, 0..4)
        };
        let text = || proptest::option::of("\\PC{0,20}");
        let keys = (any::<u64>(), any::<[u8; 32]>(), any::<[u8; 32]>());
        (
            keys,
            addrs(),
            addrs(),
            addrs(),
            text(),
            text(),
            proptest::option::of(any::<bool>()),
        )
            .prop_map(
                |(
                    (expires, swarm_key, peer_key),
                    addrs,
                    hubs,
                    relays,
                    user_id,
                    device_name,
                    user_is_set,
                )| Invitation {
                    expires,
                    swarm_key,
                    peer_key,
                    addrs,
                    hubs,
                    relays,
                    user_id,
                    user_is_set,
                    device_name,
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_invitation_survives_its_code(invitation in any_invitation()) {
            prop_assert_eq!(read(&invitation.to_code()), Ok(invitation));
        }

        #[test]
        fn every_single_wrong_character_is_found(
            invitation in any_invitation(), at in any::<prop::sample::Index>(), digit in 0..32_usize,
        ) {
            let code = invitation.to_code();
            let at = at.index(code.len());
            let mut chars: Vec<char> = code.chars().collect();
            let (found, should) = (char::from(ALPHABET[digit]), chars[at]);
            prop_assume!(found != should);
            chars[at] = found;
            let wrong: String = chars.into_iter().collect();
            prop_assert_eq!(read(&wrong), Err(CodeError::OneWrong { place: at + 1, found, should }));
        }

        #[test]
        fn every_cut_is_named_as_one(invitation in any_invitation(), keep in any::<prop::sample::Index>()) {
            let code = invitation.to_code();
            let keep = keep.index(code.len());
            let cut = read(&code[..keep]);
            match keep {
                0 | 1 => prop_assert_eq!(cut, Err(CodeError::NotACode)),
                _ => prop_assert!(matches!(cut, Err(CodeError::Truncated { .. })), "{:?}", cut),
            }
        }

        #[test]
        fn a_character_that_was_left_out_or_swapped_with_the_next_is_noticed(
            invitation in any_invitation(), at in any::<prop::sample::Index>(),
        ) {
            let code = invitation.to_code();
            let at = at.index(code.len() - 1);
            let without = format!("{}{}", &code[..at], &code[at + 1..]);
            prop_assert!(read(&without).is_err());
            let mut bytes = code.clone().into_bytes();
            bytes.swap(at, at + 1);
            let swapped = String::from_utf8(bytes).unwrap();
            prop_assume!(swapped != code);
            prop_assert!(read(&swapped).is_err());
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC*", tail in "[0-9A-Z]{0,80}") {
            let _ = read(&text);
            let _ = read(&format!("RR{tail}"));
        }
    }
}
