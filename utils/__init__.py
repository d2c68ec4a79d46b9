"""What a lesson needs and does not teach. Pages start with `from utils import course; course.begin()`."""
