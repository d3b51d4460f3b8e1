"""What the chapter's experiments run on: landscapes, a plain deep network, a recipe, calibration.
本章实验所用的部件：测试地形、朴素深网络、训练配方与校准。
"""
