use super::*;

/// An access after those of its own agent and of `friend`, and of no other.
fn visit(agent: u64, friend: u64, write: bool) -> Visit<impl FnMut(Cell, Cell) -> bool> {
    let order = move |other: Cell, _: Cell| other.agent() == agent || other.agent() == friend;
    Visit { cell: Cell::new(agent, 7, false, 3).unwrap(), old: 1 << 40, known: 0, order, lanes: false, write }
}

#[test]
fn unordered_accesses_to_the_same_byte_race() {
    let shadow = Shadow::new(256).unwrap();
    let row: [u64; 32] = std::array::from_fn(|lane| lane as u64 * 4);
    assert_eq!(shadow.visit(&mut visit(1, 0, true), &row, u32::MAX, 4), None);
    let Race { lane, other, wrote } = shadow.visit(&mut visit(2, 0, false), &row, u32::MAX, 4).unwrap();
    assert!(wrote);
    assert_eq!((lane, other.agent(), other.time(), other.lane(), other.step()), (0, 1, 7, 0, Some(3)));
    assert_eq!(shadow.visit(&mut visit(2, 1, false), &row, u32::MAX, 4), None);
    assert_eq!(shadow.visit_lane(&mut visit(3, 1, true), 5, 12, 4).unwrap().other.agent(), 2, "write after read");
    assert_eq!(shadow.visit_lane(&mut visit(3, 0, true), 5, 128, 4), None);
}

/// Whatever warps do, whole rows tell the same races as their words one by one.
#[test]
fn rows_and_words_tell_the_same() {
    let run = |offset: u64, bytes: u64| -> [u64; 32] { std::array::from_fn(|lane| offset + lane as u64 * bytes) };
    let mut seed = 7_u64;
    let mut below = |limit: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % limit
    };

    let (mut races, mut quiet) = (0, 0);
    for _ in 0..3000 {
        let (rows, words) = (Shadow::new(1024).unwrap(), Shadow::new(1024).unwrap());
        // The vector clocks of agents 1 to 3.
        let mut clocks = [[0_u32; 4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];
        for _ in 0..12 {
            let agent = 1 + below(3) as usize;
            // A barrier of two or of all, more often than not.
            if below(5) < 3 {
                let who = if below(2) == 0 { vec![1, 2, 3] } else { vec![agent, 1 + below(3) as usize] };
                let joined = who.iter().fold([0; 4], |all, &one| std::array::from_fn(|i| clocks[one][i].max(all[i])));
                who.iter().for_each(|&one| clocks[one] = joined);
                who.iter().for_each(|&one| clocks[one][one] += 1);
            }
            let (clock, write, strong) = (clocks[agent], below(2) == 0, below(6) == 0);
            let visit = || {
                let order = move |other: Cell, _: Cell| clock[other.agent() as usize] >= other.time();
                let cell = Cell::new(agent as u64, clock[agent], strong, 3).unwrap();
                Visit { cell, old: 1 << 40, known: 0, order, lanes: false, write }
            };
            let bytes = 1 << below(5);
            let (offsets, mask) = match below(6) {
                0..3 => (run(128 * below(4), bytes), u32::MAX),
                3 => (run(bytes * below(16), bytes), u32::MAX),
                4 => (run(128 * below(4), bytes), 1 + below(u64::from(u32::MAX)) as u32),
                _ => (run(128 * below(4), bytes).map(|x| x ^ bytes), u32::MAX),
            };
            let got = rows.visit(&mut visit(), &offsets, mask, bytes);
            // Lane by lane and word by word, so that no row is ever whole.
            let expected = (0..32).filter(|lane| mask >> lane & 1 != 0).find_map(|lane| {
                words.part(&visit(), offsets[lane], bytes);
                words.visit_words(&mut visit(), lane, offsets[lane], bytes)
            });
            assert_eq!(got, expected);
            for word in 0..256 {
                let writers = |shadow: &Shadow| shadow.last_writers(word * 4).collect::<Vec<_>>();
                assert_eq!(writers(&rows), writers(&words), "word {word}");
            }
            if got.is_some() {
                races += 1;
                break;
            }
            quiet += 1;
        }
    }

    assert!(races > 500 && quiet > 5000, "{races} races, {quiet} not");
}

#[test]
fn a_range_of_one_lane_and_an_earlier_launch() {
    let shadow = Shadow::new(512).unwrap();
    let row: [u64; 32] = std::array::from_fn(|lane| 128 + lane as u64 * 4);
    assert_eq!(shadow.visit_lane(&mut visit(1, 0, true), 9, 0, 384), None);
    let race = shadow.visit(&mut visit(2, 0, false), &row, u32::MAX, 4).unwrap();
    assert_eq!((race.lane, race.other.lane(), race.other.agent(), race.wrote), (0, 9, 1, true));
    // In the next launch, whose agents are numbered from 2, none of that counts; nor do rows that were taken apart.
    let later = |agent: u64, write: bool| Visit { old: 2 << 40, ..visit(agent, 0, write) };
    assert_eq!(shadow.visit(&mut later(2, true), &row, u32::MAX, 4), None);
    assert_eq!(shadow.visit_lane(&mut later(3, true), 0, 0, 4), None);
    assert_eq!(shadow.visit_lane(&mut later(3, false), 0, 132, 4).unwrap().other.lane(), 1);
    assert_eq!(shadow.visit_lane(&mut Visit { old: 4 << 40, ..visit(4, 0, false) }, 0, 132, 4), None);
}

#[test]
fn two_readers_are_remembered_and_bytes_are_told_apart() {
    let shadow = Shadow::new(16).unwrap();
    for agent in [1, 2] {
        assert_eq!(shadow.visit_lane(&mut visit(agent, 0, false), 0, 4, 2), None);
    }
    for (writer, friend, other) in [(1, 0, 2), (2, 0, 1), (3, 1, 2), (3, 2, 1)] {
        let race = shadow.visit_lane(&mut visit(writer, friend, true), 0, 4, 1);
        assert_eq!(race.unwrap().other.agent(), other);
    }
    assert_eq!(shadow.visit_lane(&mut visit(3, 0, true), 0, 6, 2), None, "the other half");
    assert_eq!(shadow.visit_lane(&mut visit(4, 0, true), 0, 0, 4), None);
    assert_eq!(shadow.visit_lane(&mut visit(4, 0, true), 0, 4, 4).unwrap().other.agent(), 3);
    shadow.clear();
    assert_eq!(shadow.visit_lane(&mut visit(4, 0, true), 0, 4, 4), None);
}
