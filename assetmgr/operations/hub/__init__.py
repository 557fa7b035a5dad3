"""The Hugging Face Hub: find repositories, choose files of them, fetch them, see what is newer."""
