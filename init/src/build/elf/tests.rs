use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const READ_EXECUTE: u32 = 5;
const READ_WRITE: u32 = 6;

/// A program header: type, flags, file offset, address, bytes in the file and in memory.
type Header = (u32, u32, u64, u64, u64, u64);

fn file(entry: u64, headers: &[Header]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend(entry.to_le_bytes());
    file.extend(64u64.to_le_bytes());
    file.resize(54, 0);
    file.extend([56, 0, headers.len() as u8, 0]);
    file.resize(64, 0);
    for &(kind, flags, offset, address, in_file, in_memory) in headers {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        for word in [offset, address, address, in_file, in_memory, PAGE_SIZE] {
            file.extend(word.to_le_bytes());
        }
    }
    file.resize(0x3000, 0x5a);
    file
}

const TEXT: Header = (PT_LOAD, READ_EXECUTE, 0x1010, PROGRAM + 0x10, 0x800, 0x800);
const DATA: Header = (PT_LOAD, READ_WRITE, 0x2000, PROGRAM + 0x2000, 0x10, 0x1801);

#[test]
fn a_program_is_its_segments_in_pages() {
    let file = file(PROGRAM + 0x20, &[TEXT, DATA]);
    let program = Program::parse(&file).expect("sound");
    assert_eq!(program.entry, PROGRAM + 0x20);
    let [text, data] = &program.segments[..] else { panic!("two segments") };
    assert_eq!((text.address, text.pages, text.offset), (PROGRAM, 1, 0x10));
    assert_eq!((text.data.len(), text.flags), (0x800, MapFlags::EXECUTE));
    assert_eq!((data.address, data.pages, data.data.len()), (PROGRAM + 0x2000, 2, 0x10));
    assert_eq!(program.size(), 3 * PAGE_SIZE);
}

#[test]
fn what_cannot_be_loaded_is_refused_with_the_reason() {
    let refused = |entry, headers: &[Header]| Program::parse(&file(entry, headers)).expect_err("refused");
    let entry = PROGRAM + 0x20;
    let with = |change: fn(&mut Header)| {
        let mut data = DATA;
        change(&mut data);
        [TEXT, data]
    };
    assert_eq!(refused(entry, &[]), BadProgram::Segments);
    assert_eq!(refused(0, &[TEXT]), BadProgram::Entry);
    assert_eq!(refused(PROGRAM + 0x2000, &[TEXT, DATA]), BadProgram::Entry);
    assert_eq!(refused(entry, &with(|data| data.1 = 7)), BadProgram::WritableCode);
    assert_eq!(refused(entry, &with(|data| data.3 = PROGRAM + 0x900)), BadProgram::Overlap);
    assert_eq!(refused(entry, &[DATA, TEXT]), BadProgram::Overlap);
    assert_eq!(refused(entry, &with(|data| data.3 = PROGRAM_END - 1)), BadProgram::Outside);
    assert_eq!(refused(entry, &with(|data| data.3 = 0x1000)), BadProgram::Outside);
    assert_eq!(refused(entry, &with(|data| data.5 = u64::MAX)), BadProgram::Outside);
    assert_eq!(refused(entry, &with(|data| data.4 = 0x4000)), BadProgram::Malformed);
    assert_eq!(refused(entry, &with(|data| data.2 = u64::MAX)), BadProgram::Malformed);
    assert_eq!(refused(entry, &with(|data| data.2 = 0x2ff8)), BadProgram::Malformed);
    assert_eq!(refused(entry, &with(|data| data.0 = PT_INTERP)), BadProgram::NotStatic);
    assert_eq!(refused(entry, &[TEXT; MAX_SEGMENTS + 1]), BadProgram::Overlap);
}

#[test]
fn other_files_are_no_programs() {
    assert_eq!(Program::parse(b""), Err(BadProgram::NotElf));
    assert_eq!(Program::parse(&[b'#'; 200]), Err(BadProgram::NotElf));
    let mut other = file(PROGRAM, &[TEXT]);
    other[18] = 3;
    assert_eq!(Program::parse(&other), Err(BadProgram::OtherMachine));
    let mut shared = file(PROGRAM, &[TEXT]);
    shared[16] = 3;
    assert_eq!(Program::parse(&shared), Err(BadProgram::NotStatic));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_a_file_says_what_is_loaded_is_sound(
        changes in proptest::collection::vec((0..64usize + 3 * 56, any::<u8>()), 0..12)
    ) {
        let mut file = file(PROGRAM + 0x20, &[TEXT, DATA]);
        for (at, value) in changes {
            file[at] = value;
        }
        if let Ok(program) = Program::parse(&file) {
            let mut last = PROGRAM;
            for segment in &program.segments {
                prop_assert!(segment.address >= last && segment.address.is_multiple_of(PAGE_SIZE));
                last = segment.address + segment.pages * PAGE_SIZE;
                prop_assert!(last <= PROGRAM_END);
                prop_assert!(segment.offset + segment.data.len() as u64 <= segment.pages * PAGE_SIZE);
                prop_assert!(!segment.flags.has(MapFlags::WRITE.or(MapFlags::EXECUTE)));
            }
        }
    }
}
