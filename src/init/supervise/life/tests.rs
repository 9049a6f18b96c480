use super::*;

#[test]
fn signal_is_passed_on_unless_the_init_caused_it_itself() {
    let (own, other) = (getpid(), Pid::from_raw(0));
    let (user, queue, kernel) = (libc::SI_USER, libc::SI_QUEUE, libc::SI_KERNEL);
    for (number, code, sender, expected) in [
        (libc::SIGTERM, user, other, true),
        (libc::SIGTERM, queue, other, true),
        (libc::SIGINT, kernel, other, true),
        (libc::SIGPIPE, user, other, true),
        (libc::SIGPIPE, user, own, false),
        (libc::SIGXFSZ, user, own, false),
        (libc::SIGTSTP, user, other, false),
        (libc::SIGTSTP, kernel, other, true),
        (libc::SIGTTIN, user, other, false),
        (libc::SIGTTOU, user, other, false),
        (libc::SIGRTMIN(), queue, other, true),
        (64, user, other, true),
    ] {
        let arrival = Arrival {
            number,
            code,
            sender,
        };
        let found = is_for_application(&arrival, own);
        assert_eq!(
            found, expected,
            "signal {number}, code {code}, from {sender}"
        );
    }
}

#[test]
fn exit_code_is_kept_and_a_signal_is_128_plus_its_number() {
    for code in 0..=255 {
        assert_eq!(exit_code(i32::from(code) << 8), code);
    }
    for number in (1..=64).filter(|number| *number != libc::SIGSTOP) {
        let dumped_core = 0x80;
        assert_eq!(i32::from(exit_code(number)), 128 + number);
        assert_eq!(i32::from(exit_code(number | dumped_core)), 128 + number);
    }
}
