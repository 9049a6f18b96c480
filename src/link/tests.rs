use super::*;

#[test]
fn variables_arrive_whole_and_once_and_orders_after_them() {
    let (mut parent, mut keeper) = pair().expect("sockets");
    assert!(matches!(parent.read(), Ok(News::Nothing)));
    let variables = [
        ("A".to_owned(), Secret::new("1=2\n".to_owned())),
        ("B".to_owned(), Secret::new(String::new())),
    ];
    keeper.send_ready(&variables, true).expect("sent");
    keeper.send_signal(Signal::SIGHUP).expect("sent");
    keeper.tell(Signal::SIGUSR1).expect("sent");
    keeper.terminate().expect("sent");
    let Ok(News::Ready(ready)) = parent.read() else {
        panic!("not ready")
    };
    let variables: Vec<_> = ready
        .variables
        .iter()
        .map(|variable| variable.expose().clone())
        .collect();
    assert_eq!(variables, [b"A=1=2\n".to_vec(), b"B=".to_vec()]);
    assert!(ready.stays);
    parent.release().expect("sent");
    assert!(keeper.await_release());
    drop(keeper);
    assert!(matches!(parent.read(), Ok(News::Signal(Signal::SIGHUP))));
    assert!(matches!(parent.read(), Ok(News::Tell(Signal::SIGUSR1))));
    assert!(matches!(parent.read(), Ok(News::Terminate)));
    assert!(matches!(parent.read(), Ok(News::Ended)));
}

#[test]
fn restart_comes_with_all_variables_among_other_orders() {
    let (mut parent, mut keeper) = pair().expect("sockets");
    keeper.send_ready(&[], true).expect("sent");
    assert!(matches!(parent.read(), Ok(News::Ready(_))));
    // Longer than what is read at once, with the byte of another order in each place.
    let long = "te".repeat(4000);
    let variables = [("A".to_owned(), Secret::new(long.clone()))];
    keeper.send_signal(Signal::SIGHUP).expect("sent");
    keeper.restart(&variables).expect("sent");
    keeper.restart(&[]).expect("sent");
    keeper.terminate().expect("sent");
    assert!(matches!(parent.read(), Ok(News::Signal(Signal::SIGHUP))));
    let Ok(News::Restart(found)) = parent.read() else {
        panic!("no restart")
    };
    assert_eq!(*found[0].expose(), format!("A={long}").into_bytes());
    assert!(matches!(parent.read(), Ok(News::Restart(none)) if none.is_empty()));
    parent.accept();
    parent.refuse();
    assert!(keeper.await_answer());
    assert!(!keeper.await_answer());
    assert!(!keeper.is_ending());
    assert!(matches!(parent.read(), Ok(News::Terminate)));
    // A part of a message is none yet.
    for part in [&[RESTART][..], &[5, 0], &[0, 0, b'B', b'='], &[b'1', 0]] {
        assert!(matches!(parent.read(), Ok(News::Nothing)));
        keeper.stream.write_all(part).expect("sent");
    }
    assert!(matches!(parent.read(), Ok(News::Nothing)));
    keeper.stream.write_all(&[0]).expect("sent");
    let Ok(News::Restart(found)) = parent.read() else {
        panic!("no restart")
    };
    assert_eq!(*found[0].expose(), b"B=1");
    let too_long = [&[RESTART][..], &[255; 4]].concat();
    keeper.stream.write_all(&too_long).expect("sent");
    assert!(parent.read().is_err());
}

#[test]
fn pause_ends_when_the_parent_does_and_not_before_its_time() {
    let (mut parent, keeper) = pair().expect("sockets");
    let began = Instant::now();
    assert!(keeper.is_quiet_for(Duration::from_millis(20)));
    assert!(began.elapsed() >= Duration::from_millis(20));
    parent.call_off();
    assert!(!keeper.is_quiet_for(Duration::from_secs(600)));
    assert!(!keeper.is_quiet_for(Duration::ZERO));
}

// f34
#[test]
fn parent_that_is_gone_has_called_the_start_off() {
    let (parent, mut keeper) = pair().expect("sockets");
    drop(parent);
    assert!(!keeper.await_release());
}

#[test]
fn successful_start_is_told_from_a_failed_one() {
    for (is_started, is_lost) in [(true, false), (false, false), (false, true)] {
        let (mut parent, mut keeper) = pair().expect("sockets");
        parent.release().expect("sent");
        if is_started {
            parent.report_start();
        }
        if is_lost {
            drop(parent);
        } else {
            parent.call_off();
        }
        assert!(keeper.await_release());
        assert_eq!(keeper.await_start(), is_started, "{is_lost}");
    }
}

#[test]
fn successful_exec_is_told_from_a_failed_one() {
    let (parent, mut keeper) = pair().expect("sockets");
    drop(parent);
    assert!(keeper.await_exec());
    let (mut parent, mut keeper) = pair().expect("sockets");
    parent.call_off();
    assert!(!keeper.await_exec());
}

#[test]
fn end_that_comes_instead_of_an_answer_is_heard() {
    let (mut parent, mut keeper) = pair().expect("a socket");
    let ending = keeper.ending().expect("a descriptor");
    keeper.restart(&[]).expect("there is room");
    parent.call_off();
    assert!(!keeper.await_answer());
    assert!(keeper.is_ending());
    let mut ready = [PollFd::new(ending.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut ready, PollTimeout::ZERO), Ok(1));
}
