"""What a release does next: pure functions of what is aspired and what is seen."""
