"""The web page: a queue of jobs, a folder of what visitors made, and a page over both."""
