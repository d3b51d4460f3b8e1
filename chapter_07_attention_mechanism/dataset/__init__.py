"""The chapter's data, one task a module.
本章的数据，每个任务一个模块。
"""
