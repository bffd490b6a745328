//! The ledger's protocol, word for word: what is frozen here is what programs and servers of two versions agree on.

use proto::ledger::{Failure, MAX_NAME, OK, Request, name_from_words, name_words};
use proto::once::{Refusal, Stamp};

#[test]
fn labels_are_what_they_were() {
    let requests: Vec<_> = Request::ALL.iter().map(|each| (format!("{each:?}"), *each as u32)).collect();
    let expected = ["Open", "Close", "Transfer", "Balance", "Find", "History", "Account", "Totals"];
    assert_eq!(requests, expected.iter().zip(1..).map(|(name, at)| ((*name).into(), at)).collect::<Vec<_>>());
    let failures: Vec<_> = Failure::ALL.iter().map(|each| (format!("{each:?}"), *each as u32)).collect();
    let expected = [
        "Malformed",
        "BadName",
        "NameTaken",
        "NoSuchAccount",
        "TooManyAccounts",
        "NotEmpty",
        "SameAccount",
        "NotEnough",
        "TooMuch",
    ];
    assert_eq!(failures, expected.iter().zip(1..).map(|(name, at)| ((*name).into(), at)).collect::<Vec<_>>());
    let refusals: Vec<_> = Refusal::ALL.iter().map(|each| (format!("{each:?}"), *each as u32)).collect();
    let expected = [
        "NoStamp",
        "TooManyLanes",
        "NoSuchSlot",
        "OldGeneration",
        "OldNumber",
        "NumberAhead",
        "Poison",
        "TooLarge",
        "HalfDone",
        "NoPrincipal",
        "Banned",
        "TryAgain",
    ];
    let from = 0xffff_ff00..;
    assert_eq!(
        refusals,
        expected.iter().zip(from).map(|(name, at)| ((*name).into(), at)).collect::<Vec<_>>()
    );
}

#[test]
fn every_label_names_what_it_is_the_label_of_and_no_two_agree() {
    for label in (0..64).chain(0xffff_fef0..=0xffff_ffff) {
        let request = Request::from_label(label).map(|each| each as u32);
        assert_eq!(request, (1..=8).contains(&label).then_some(label));
        let failure = Failure::from_label(label).map(|each| each as u32);
        assert_eq!(failure, (1..=9).contains(&label).then_some(label));
        let refusal = Refusal::from_label(label).map(|each| each as u32);
        assert_eq!(refusal, (0xffff_ff00..0xffff_ff0c).contains(&label).then_some(label));
    }
    assert_eq!(OK, 0);
}

#[test]
fn what_only_looks_is_told_from_what_changes() {
    let looks: Vec<_> =
        Request::ALL.into_iter().filter(|each| each.only_looks()).map(|each| each as u32).collect();
    assert_eq!(looks, [4, 5, 6, 7, 8]);
}

#[test]
fn a_stamp_is_a_word() {
    let stamp = Stamp { lane: 5, number: 0x1234 };
    assert_eq!(stamp.word(), 0x0005_0000_0000_1234);
    assert_eq!(Stamp::from_word(stamp.word()), Some(stamp));
    assert_eq!(Stamp::from_word(5 << 48), None);
}

#[test]
fn a_name_is_four_words() {
    assert_eq!(name_words("alice"), Some([0x65_6369_6c61, 0, 0, 0]));
    assert_eq!(
        name_words("A name of 32 bytes, and no more!").map(|words| words[3]),
        Some(0x2165_726f_6d20_6f6e)
    );
    for name in ["a", "alice", "Zoë", "A name of 32 bytes, and no more!"] {
        let words = name_words(name).expect("a name");
        assert_eq!(name_from_words(&words, name.len() as u64).as_deref(), Some(name));
    }
}

#[test]
fn what_is_no_name_is_refused() {
    for name in ["", "a\nb", "\0", "thirty-three bytes are one too many"] {
        assert_eq!(name_words(name), None, "{name:?}");
    }
    let words = [u64::from_le_bytes(*b"ab\x01cdefg"), u64::MAX, 0, 0, 0];
    for length in [0, 3, 9, MAX_NAME as u64 + 1, 1 << 32, u64::MAX] {
        assert_eq!(name_from_words(&words, length), None, "{length}");
    }
    assert_eq!(name_from_words(&words[..0], 1), None, "fewer words than it says");
    assert_eq!(name_from_words(&words, 2).as_deref(), Some("ab"));
}
