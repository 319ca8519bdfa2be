"""One input at a time: how strange is it, and is that more than benign inputs ever are?"""
