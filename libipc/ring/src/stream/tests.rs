use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn memory(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn bytes_come_out_as_they_went_in(
        pieces in proptest::collection::vec((0..80usize, 0..80usize), 1..60), start in any::<u64>()
    ) {
        let memory = memory(words_for(64));
        for word in [0, 16] {
            memory[word].write(start);
        }
        let begin = Begin::Again { own: start, seen: start };
        let mut writer = Writer::new(&memory[..], begin).expect("room");
        let mut reader = Reader::new(&memory[..], begin).expect("room");
        let (mut written, mut read) = (0u8, 0u8);
        let mut inside = 0;
        for (write, take) in pieces {
            let bytes: Vec<u8> = (0..write).map(|at| written.wrapping_add(at as u8)).collect();
            let count = writer.write(&bytes).expect("sound");
            prop_assert_eq!(count, write.min(64 - inside));
            written = written.wrapping_add(count as u8);
            let _ = writer.publish();
            let mut bytes = std::vec![0; take];
            let length = reader.read(&mut bytes).expect("sound");
            prop_assert_eq!(length, take.min(inside + count));
            for byte in &bytes[..length] {
                prop_assert_eq!(*byte, read);
                read = read.wrapping_add(1);
            }
            let _ = reader.publish();
            inside = inside + count - length;
        }
    }

    #[test]
    fn a_hostile_side_gets_corrupt_or_wrong_data_and_nothing_else(
        scribbles in proptest::collection::vec((0..words_for(64), any::<u64>()), 0..100)
    ) {
        let memory = memory(words_for(64));
        let mut writer = Writer::new(&memory[..], Begin::New).expect("room");
        let mut reader = Reader::new(&memory[..], Begin::New).expect("room");
        for (at, value) in scribbles {
            memory[at].write(value);
            prop_assert!(writer.write(&[1; 100]).is_ok_and(|count| count <= 64) || writer.write(&[]).is_err());
            prop_assert!(reader.read(&mut [0; 100]).is_ok_and(|count| count <= 64) || reader.read(&mut []).is_err());
            let _ = (writer.publish(), reader.publish());
        }
    }
}

#[test]
fn the_capacity_is_a_power_of_two_of_words() {
    let memory = memory(HEADER_WORDS + 5);
    let mut writer = Writer::new(&memory[..], Begin::New).expect("room");
    assert_eq!(writer.write(&[0; 100]), Ok(32));
    assert_eq!(writer.write(&[0; 100]), Ok(0));
    assert_eq!(writer.sleep(), Ok(true));
    assert!(Writer::new(&memory[..HEADER_WORDS], Begin::New).is_err());
}

#[test]
fn bytes_that_were_only_looked_at_stay() {
    let memory = memory(words_for(64));
    let mut writer = Writer::new(&memory[..], Begin::New).expect("room");
    let mut reader = Reader::new(&memory[..], Begin::New).expect("room");
    assert_eq!(writer.write(&[7; 60]), Ok(60));
    assert_eq!(writer.write(b"abcd"), Ok(4));
    let _ = writer.publish();
    let mut place = [0; 8];
    assert_eq!(reader.peek(60, &mut place), Ok(4));
    assert_eq!(&place[..4], b"abcd");
    assert_eq!(reader.peek(64, &mut place), Ok(0));
    assert_eq!(reader.peek(u64::MAX, &mut place), Ok(0));
    let _ = reader.publish();
    assert_eq!(writer.write(b"x"), Ok(0), "nothing was taken");
    reader.skip(60);
    let _ = reader.publish();
    assert_eq!(writer.write(&[8; 100]), Ok(60));
    let _ = writer.publish();
    assert_eq!(reader.peek(0, &mut place), Ok(8));
    assert_eq!(&place, b"abcd\x08\x08\x08\x08");
    reader.skip(1000);
    assert_eq!(reader.peek(0, &mut place), Ok(0));
}
