"""What people read: the page of one run and of a study. It shows numbers and computes none."""
