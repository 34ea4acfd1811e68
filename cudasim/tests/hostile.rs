//! Damaged and hostile texts give an error or a module: no panic, no endless loop, no great memory.

use cudasim::ptx;

const TEXTS: [&str; 2] = [include_str!("ptx/syntax.ptx"), include_str!("ptx/instructions.ptx")];

/// xorshift64*, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Parses bytes as the driver would: what is no UTF-8 is replaced first.
fn parse(bytes: &[u8]) -> bool {
    ptx::parse(&String::from_utf8_lossy(bytes)).is_ok()
}

#[test]
fn truncated() {
    for text in TEXTS {
        assert!(parse(text.as_bytes()));
        for end in (0..text.len()).step_by(7) {
            // Line ends inside the module header and between definitions are whole texts; the rest is refused.
            parse(&text.as_bytes()[..end]);
        }
    }
}

#[test]
fn mutated() {
    let mut random = Random(0x1dea_5eed);
    let pieces: [&[u8]; 16] =
        [b"{", b"}", b"[", b"]", b"(", b")", b";", b",", b":", b".", b"-", b"|", b"99999999999", b"<", b"\"", b"/*"];
    let (mut accepted, mut refused) = (0, 0);

    for round in 0..4000 {
        let mut bytes = TEXTS[round % TEXTS.len()].as_bytes().to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(6) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                2 => drop(bytes.splice(at..at, pieces[random.below(pieces.len())].iter().copied())),
                3 => drop(bytes.drain(at..(at + 1 + random.below(40)).min(bytes.len()))),
                4 => {
                    let from = random.below(bytes.len());
                    let copy = bytes[from..(from + random.below(80)).min(bytes.len())].to_vec();
                    drop(bytes.splice(at..at, copy));
                }
                _ => {
                    let other = random.below(bytes.len());
                    bytes.swap(at, other);
                }
            }
        }
        *if parse(&bytes) { &mut accepted } else { &mut refused } += 1;
    }

    assert!(accepted > 20 && refused > 1000, "{accepted} accepted, {refused} refused: too tame or too wild");
}

#[test]
fn deep_and_large() {
    let header = ".version 8.0\n.target sm_80\n.address_size 64\n";
    let many = 100_000;
    for text in [
        format!("{header}.entry k() {{ {}", "{".repeat(many)),
        format!("{header}.global .b8 x[1] = {}", "{".repeat(many)),
        format!("{header}.global .b8 x{}", "[2]".repeat(many)),
        format!("{header}.entry k() {{ .reg .b32 r; mov.b32 {}", "{".repeat(many)),
        format!("{header}.entry k() {{ mov{} r, r; }}", ".b32".repeat(many)),
        format!("{header}.global .b8 x[1099511627776] = {{0, {{1}}, 2}};"),
        format!("{header}.global .b8 x[2][500000000000] = {{{{1}}, {{1}}}};"),
        format!("{header}.entry k() {{ {} }}", ".reg .b32 %r<1048576>;{".repeat(40)),
        format!("{header}.entry k(.param .b8 a[1099511627776], .param .b8 b[1099511627776]) {{ }}"),
        format!("{header}/*{}", "*".repeat(many)),
        "\"".repeat(many),
    ] {
        assert!(!parse(text.as_bytes()), "{}", &text[..text.len().min(120)]);
    }
}
